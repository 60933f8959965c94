/* Classifies held-out digits with a compiled model, given in eight orientations.
 *   gdlc build examples/digits.gdl -o out
 *   cc -O2 -Iout examples/call_from/c/digits.c -Lout -ldigits -Wl,-rpath,out -o out/digits
 *   out/digits examples/data                                                                */
#include "digits.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The numbers of a tensor of a safetensors file: a length, a header in JSON, the data. */
static void *tensor(const char *folder, const char *file, const char *name) {
    char path[4096], key[64], *header, *numbers;
    uint64_t length;
    long begin, end;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    snprintf(key, sizeof key, "\"%s\":", name);
    FILE *f = fopen(path, "rb");
    if (!f || fread(&length, 8, 1, f) != 1 || !(header = calloc(length + 1, 1)) || fread(header, 1, length, f) != length
        || sscanf(strstr(strstr(header, key), "data_offsets"), "data_offsets\":[%ld,%ld]", &begin, &end) != 2
        || !(numbers = malloc(end - begin)) || fseek(f, 8 + length + begin, SEEK_SET)
        || fread(numbers, 1, end - begin, f) != (size_t)(end - begin)) exit(2);
    free(header), fclose(f);
    return numbers;
}

int main(int argc, char **argv) {
    const char *data = argc > 1 ? argv[1] : "examples/data", *weights = "digits.weights.safetensors";
    enum { IMAGES = 2880, EACH = IMAGES / 8 };
    static float logits[IMAGES][10];
#define TENSOR(numbers, ...) &(DLTensor){ numbers, { 1, 0 }, sizeof((int64_t[]){ __VA_ARGS__ }) / 8, { 2, 32, 1 }, (int64_t[]){ __VA_ARGS__ }, 0, 0 }
#define WEIGHT(name, ...) TENSOR(tensor(data, weights, name), __VA_ARGS__)
    const DLTensor *x[] = { TENSOR(tensor(data, "digits.safetensors", "x"), IMAGES, 8, 8, 1) }, *y[] = { TENSOR(logits, IMAGES, 10) };
    const DLTensor *w[] = { WEIGHT("linear1.weight", 8, 1, 25), WEIGHT("linear1.bias", 8), WEIGHT("linear2.weight", 8, 8, 200),
        WEIGHT("linear2.bias", 8), WEIGHT("linear3.weight", 10, 8), WEIGHT("linear3.bias", 10) }; /* the order of digits.h */
    gdl_context context = { GDL_VERSION };
    if (gdl_digits_run(&context, x, w, y) != GDL_OK) return fprintf(stderr, "%s\n", context.message), 1;
    int64_t *labels = tensor(data, "digits.safetensors", "labels");
    for (int g = 0, i = 0; g < 8; g++) {
        int right = 0;
        for (; i < (g + 1) * EACH; i++) {
            int best = 0;
            for (int k = 1; k < 10; k++) if (logits[i][k] > logits[i][best]) best = k;
            right += best == labels[i];
        }
        printf("orientation %d: accuracy %.3f\n", g, (double)right / EACH);
    }
    if (argc > 2) fwrite(logits, sizeof logits, 1, fopen(argv[2], "wb")); /* for the tests */
}
