/* Calls a model of a library on the tensors of a file: for tests of libraries for other processors than the one that gdlc runs on.
 *   cc -include f.h call.c -o call          f.h: of any library
 *   call LIBRARY MODEL INPUT OUTPUT SIZE..  the run-time sizes that no input has are taken from these, which are all of them
 * INPUT has the inputs and then the weights, each a rank, whether it has indices, the extents (64-bit words), and the numbers; OUTPUT gets
 * the numbers of the outputs. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static void *room(size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    return p ? p : (exit(3), p);
}

static void words(FILE *file, int64_t *to, size_t n) {
    if (fread(to, 8, n, file) != n) exit(4);
}

static DLTensor *tensor(int64_t rank, const int64_t *shape, DLDataType type) {
    DLTensor *t = room(sizeof *t);
    size_t n = 1;
    for (int64_t k = 0; k < rank; k++) n *= shape[k];
    *t = (DLTensor){ room(n * type.bits / 8), { 1, 0 }, rank, type, (int64_t *)shape, 0, 0 };
    return t;
}

static size_t count(const DLTensor *t) {
    size_t n = 1;
    for (int k = 0; k < t->ndim; k++) n *= t->shape[k];
    return n;
}

static const DLTensor **tensors(FILE *file, int64_t n, DLDataType real) {
    const DLTensor **all = room(n * sizeof *all);
    for (int64_t i = 0; i < n; i++) {
        int64_t head[2], *shape;
        words(file, head, 2);
        words(file, shape = room(8 * head[0]), head[0]);
        DLTensor *t = tensor(head[0], shape, head[1] ? (DLDataType){ 0, 64, 1 } : real);
        if (fread(t->data, t->dtype.bits / 8, count(t), file) != count(t)) exit(4);
        all[i] = t;
    }
    return all;
}

static int64_t extent(const gdl_size *s, const int64_t *sizes) {
    int64_t n = (s->scale ? s->scale * sizes[s->var] : 0) + s->offset;
    return n < 0 ? 0 : n / s->divisor;
}

int main(int argc, char **argv) {
    if (argc < 5) return 2;
    void *library = dlopen(argv[1], RTLD_NOW);
    if (!library) return fprintf(stderr, "%s\n", dlerror()), 2;
    char symbol[1024];
    snprintf(symbol, sizeof symbol, "gdl_%s_query", argv[2]);
    const gdl_model *(*query)(void) = (const gdl_model *(*)(void))dlsym(library, symbol);
    FILE *in = fopen(argv[3], "rb"), *out = fopen(argv[4], "wb");
    if (!query || !in || !out) return 2;
    const gdl_model *m = query();
    const DLDataType real = { 2, m->real ? 64 : 32, 1 };
    const DLTensor **inputs = tensors(in, m->n_inputs, real), **weights = tensors(in, m->n_weights, real);
    gdl_context context = { GDL_VERSION };
    int64_t *sizes = room(8 * m->n_sizes);
    gdl_memory memory[3] = { { 0, 0 } };
#define CHECKED(call) if ((call) != GDL_OK) return fprintf(stderr, "%s\n", context.message), 1
    CHECKED(m->sizes_of(&context, inputs, sizes));
    for (int64_t k = 0; k < m->n_sizes; k++) if (sizes[k] < 0 && 5 + k < argc) sizes[k] = atoll(argv[5 + k]);
    CHECKED(m->memory(&context, sizes, memory));
    for (int k = 0; k < 3; k++) memory[k].data = room(memory[k].bytes);
    CHECKED(m->bind(&context, inputs, sizes, memory));
    CHECKED(m->prepare(&context, weights, memory));
    const DLTensor **outputs = room(m->n_outputs * sizeof *outputs);
    for (int64_t i = 0; i < m->n_outputs; i++) {
        int64_t *shape = room(8 * m->outputs[i].rank);
        for (int64_t k = 0; k < m->outputs[i].rank; k++) shape[k] = extent(&m->outputs[i].dims[k], sizes);
        outputs[i] = tensor(m->outputs[i].rank, shape, real);
    }
    CHECKED(m->call(&context, inputs, outputs, memory));
    for (int64_t i = 0; i < m->n_outputs; i++) fwrite(outputs[i]->data, real.bits / 8, count(outputs[i]), out);
    return fclose(out) ? 4 : 0;
}
