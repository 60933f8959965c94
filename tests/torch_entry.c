/* PyTorch's entry of a library without PyTorch: a list of a wrong length is refused by a jump to the function that throws, with the
 * stack as it was found.   torch_entry LIBRARY MODEL */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int refused;

static int size_of(void *list, size_t *n) {
    *n = 7;
    return list == 0;
}

static int32_t release(void *list) {
    return list == 0;
}

static void check(_Bool holds, const char *function, const char *file, uint32_t line, const char *message) {
    char local[16] __attribute__((aligned(16)));
    refused = !holds && line == 0 && function == message && file == message && (uintptr_t)local % 16 == 0;
    puts(message);
}

int main(int argc, char **argv) {
    void *library = argc == 3 ? dlopen(argv[1], RTLD_NOW) : 0, *functions[19] = { 0 };
    if (!library) return 2;
    functions[10] = (void *)size_of, functions[12] = (void *)release, functions[15] = (void *)check;
    char symbol[256];
    snprintf(symbol, sizeof symbol, "gdl_%s_torch_functions", argv[2]);
    void (*give)(void *) = (void (*)(void *))dlsym(library, symbol);
    snprintf(symbol, sizeof symbol, "gdl_%s_torch", argv[2]);
    void (*entry)(uint64_t *, uint64_t, uint64_t) = (void (*)(uint64_t *, uint64_t, uint64_t))dlsym(library, symbol);
    if (!give || !entry) return 3;
    give(functions);
    uint64_t stack[2] = { (uint64_t)(uintptr_t)argv, (uint64_t)(uintptr_t)argv };
    entry(stack, 2, 1);
    return refused ? 0 : 1;
}
