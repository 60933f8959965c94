/* Asks a library to bind on a GPU where there is no driver, and prints what it says.
 *   cc -include f.h no_driver.c -o no_driver          f.h: of any library
 *   no_driver LIBRARY MODEL */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv) {
    void *library = argc == 3 ? dlopen(argv[1], RTLD_NOW) : 0;
    if (!library) return 2;
    char symbol[1024];
    snprintf(symbol, sizeof symbol, "gdl_%s_query", argv[2]);
    const gdl_model *(*query)(void) = (const gdl_model *(*)(void))dlsym(library, symbol);
    if (!query) return 3;
    gdl_cuda_context context = { .context = { .version = GDL_VERSION_CUDA }, .device = { 2, 0 } };
    int64_t sizes[256] = { 4, 4, 4, 4 };
    gdl_memory memory[5] = { 0 };
    int status = query()->memory(&context.context, sizes, memory);
    if (status == GDL_OK) status = query()->bind(&context.context, 0, sizes, memory);
    puts(context.context.message);
    return status == GDL_CUDA_FAILED ? 0 : 1;
}
