/* A driver of CUDA without a GPU, for tests: `libcuda.so.1`, as far as a library of gdlc asks it. Its memory can be touched by calls of the
 * driver alone (else the process ends by SIGSEGV), a launch runs a function that was compiled for the CPU in place of the kernel, and a log
 * says what was asked for, in order. Everything is done at once; what matters is which stream it was given to. */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { OK = 0, OUT_OF_MEMORY = 2, NO_IMAGE = 200, INVALID_CONTEXT = 201, NO_PTX = 218, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700, CAPTURE_UNSUPPORTED = 900 };
enum { ARENA = 1 << 30, KERNELS = 4096, BLOCKS = 8192 };

static struct { char name[200]; void (*run)(const int64_t *); const int64_t *words; int64_t n_words, first; } kernels[KERNELS];
static struct { uint64_t at, bytes; int live; } blocks[BLOCKS];
static int n_kernels, n_blocks;
static char *arena, text[1 << 16];
static size_t used, written;

/* What a test sets. */
static int64_t device, major = 8, minor = 0, capturing, has_context = 1, fail_load, fail_cubin, fail_launch, room = ARENA;
static struct { const char *name; int64_t *value; } settings[] = {
    { "device", &device }, { "major", &major }, { "minor", &minor }, { "capturing", &capturing },
    { "context", &has_context }, { "fail load", &fail_load }, { "fail launch", &fail_launch }, { "fail cubin", &fail_cubin }, { "room", &room },
};

static void say(const char *format, ...) {
    va_list list;
    va_start(list, format);
    if (written < sizeof text - 300) written += (size_t)vsnprintf(text + written, 300, format, list);
    va_end(list);
}

static void opened(int open) {
    if (used) mprotect(arena, used, open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

static int inside(uint64_t at, uint64_t bytes) {
    for (int k = 0; k < n_blocks; k++)
        if (blocks[k].live && at >= blocks[k].at && at + bytes <= blocks[k].at + blocks[k].bytes) return 1;
    return 0;
}

/* For tests. */

/* Forgets the libraries of tests before this one, and their memory. */
void fake_start(void) { n_kernels = n_blocks = 0, used = 0; }

void fake_set(const char *name, int64_t value) {
    for (size_t k = 0; k < sizeof settings / sizeof *settings; k++)
        if (!strcmp(settings[k].name, name)) *settings[k].value = value;
}

const char *fake_log(void) {
    written = 0;
    return text;
}

void fake_clear(void) { written = 0, text[0] = 0; }

int64_t fake_live(void) {
    int64_t n = 0;
    for (int k = 0; k < n_blocks; k++) n += blocks[k].live;
    return n;
}

/* `words` of a frame are what the kernel takes; from `first` on they are addresses. */
void fake_kernel(const char *name, void (*run)(const int64_t *), const int64_t *words, int64_t n_words, int64_t first) {
    if (n_kernels == KERNELS) abort();
    snprintf(kernels[n_kernels].name, sizeof kernels->name, "%s", name);
    kernels[n_kernels].run = run, kernels[n_kernels].words = words, kernels[n_kernels].n_words = n_words;
    kernels[n_kernels++].first = first;
}

uint64_t fake_allocate(uint64_t bytes) {
    if (!arena) {
        arena = mmap(0, ARENA, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (arena == MAP_FAILED) abort();
    }
    uint64_t size = (bytes + 511) / 512 * 512 + 512;
    if (used + size > ARENA || bytes > (uint64_t)room || n_blocks == BLOCKS) return 0;
    uint64_t at = (uint64_t)(uintptr_t)(arena + used);
    blocks[n_blocks].at = at, blocks[n_blocks].bytes = bytes, blocks[n_blocks++].live = 1;
    used += size;
    opened(1), memset((void *)(uintptr_t)at, 0xA5, bytes), opened(0);
    return at;
}

int fake_free(uint64_t at) {
    for (int k = 0; k < n_blocks; k++)
        if (blocks[k].live && blocks[k].at == at) {
            opened(1), memset((void *)(uintptr_t)at, 0x5A, blocks[k].bytes), opened(0);
            return blocks[k].live = 0;
        }
    return ILLEGAL_ADDRESS;
}

static int copied(void *to, const void *from, size_t n) {
    opened(1), memcpy(to, from, n), opened(0);
    return OK;
}

void fake_write(uint64_t to, const void *from, size_t n) { copied((void *)(uintptr_t)to, from, n); }
void fake_read(void *to, uint64_t from, size_t n) { copied(to, (void *)(uintptr_t)from, n); }

/* The driver. */
int cuInit(unsigned flags) { return (int)flags; }

int cuCtxGetCurrent(void **context) {
    *context = has_context ? &device : 0;
    return OK;
}

int cuCtxGetId(void *context, uint64_t *id) {
    *id = context ? (uint64_t)(100 + device) : 0;
    return OK;
}

int cuCtxGetDevice(int *number) {
    *number = (int)device;
    return OK;
}

int cuDeviceGetAttribute(int *value, int which, int number) {
    *value = which == 75 ? (int)major : which == 76 ? (int)minor : 0;
    return number == device ? OK : NOT_FOUND;
}

int cuModuleLoadDataEx(void **module, const void *code, unsigned n, int *options, void **values) {
    say("load %s\n", memcmp(code, "\x7f" "ELF", 4) ? "ptx" : "cubin");
    if (capturing) return CAPTURE_UNSUPPORTED;
    if (fail_cubin && !memcmp(code, "\x7f" "ELF", 4)) return NO_IMAGE;
    if (fail_load) {
        for (unsigned k = 0; k < n; k++)
            if (options[k] == 5) strcpy(values[k], "ptxas fatal: Unsupported .version 8.6; current version is '8.2'\nmore");
        return NO_PTX;
    }
    *module = kernels;
    return OK;
}

int cuModuleGetFunction(void **function, void *module, const char *name) {
    /* the latest of a name: tests make many libraries */
    for (int k = n_kernels - 1; module && k >= 0; k--)
        if (!strcmp(kernels[k].name, name)) {
            *function = kernels + k;
            return OK;
        }
    return NOT_FOUND;
}

/* The kernel that checks indices and copies them: `from, n, range, to`. */
static int checked(int wide, void **arguments) {
    int64_t w[4];
    for (int k = 0; k < 4; k++) memcpy(w + k, arguments[k], 8);
    if (!inside((uint64_t)w[0], (uint64_t)w[1] * (wide ? 8 : 4)) || !inside((uint64_t)w[3], (uint64_t)w[1] * 4)) return ILLEGAL_ADDRESS;
    for (int64_t k = 0; k < w[1]; k++) {
        int64_t x = wide ? ((int64_t *)(uintptr_t)w[0])[k] : ((int32_t *)(uintptr_t)w[0])[k];
        if (x < 0 || x >= w[2]) return ILLEGAL_ADDRESS;
        ((int32_t *)(uintptr_t)w[3])[k] = (int32_t)x;
    }
    return OK;
}

int cuLaunchKernel(void *f, unsigned x, unsigned y, unsigned z, unsigned tx, unsigned ty, unsigned tz, unsigned shared, void *stream,
    void **arguments, void **extra) {
    static int64_t frame[4096], context[80] = { 3 | 1LL << 32 };
    int k = (int)((char *)f - (char *)kernels) / (int)sizeof *kernels, status = OK;
    say("launch %s on %d\n", kernels[k].name, (int)(intptr_t)stream);
    if (!x || y != 1 || z != 1 || !tx || tx > 1024 || ty != 1 || tz != 1 || shared || extra) return 1;
    if (fail_launch) return (int)fail_launch;
    opened(1);
    if (!kernels[k].run) {
        status = checked(!strcmp(kernels[k].name, "gdl_check_i64"), arguments);
    } else {
        memset(frame, 0, sizeof frame), frame[0] = (int64_t)(intptr_t)context;
        for (int64_t j = 0; j < kernels[k].n_words; j++) {
            int64_t word = kernels[k].words[j];
            memcpy(frame + word, arguments[j], 8);
            if (word >= kernels[k].first && !inside((uint64_t)frame[word], 0)) status = ILLEGAL_ADDRESS;
        }
        if (!status) kernels[k].run(frame);
    }
    opened(0);
    return status;
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t n, void *stream) {
    say("to the GPU on %d\n", (int)(intptr_t)stream);
    return inside(to, n) ? copied((void *)(uintptr_t)to, from, n) : ILLEGAL_ADDRESS;
}

int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t n, void *stream) {
    say("on the GPU on %d\n", (int)(intptr_t)stream);
    return inside(to, n) && inside(from, n) ? copied((void *)(uintptr_t)to, (void *)(uintptr_t)from, n) : ILLEGAL_ADDRESS;
}

int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t n, void *stream) {
    say("to the host on %d\n", (int)(intptr_t)stream);
    return inside(from, n) ? copied(to, (void *)(uintptr_t)from, n) : ILLEGAL_ADDRESS;
}

int cuMemAlloc_v2(uint64_t *at, size_t n) {
    say("allocate\n");
    *at = fake_allocate(n);
    return *at ? OK : OUT_OF_MEMORY;
}

int cuMemFree_v2(uint64_t at) {
    say("free\n");
    return has_context ? fake_free(at) : INVALID_CONTEXT;
}

int cuStreamSynchronize(void *stream) {
    say("wait for %d\n", (int)(intptr_t)stream);
    return capturing ? CAPTURE_UNSUPPORTED : OK;
}

int cuStreamIsCapturing(void *stream, int *is) {
    *is = stream ? (int)capturing : 0;
    return OK;
}

int cuStreamGetCtx(void *stream, void **context) {
    *context = stream ? &device : 0;
    return OK;
}

int cuCtxPushCurrent_v2(void *context) {
    say("enter\n");
    has_context += context != 0;
    return OK;
}

int cuCtxPopCurrent_v2(void **context) {
    say("leave\n");
    *context = &device, has_context--;
    return OK;
}

int cuGetErrorName(int status, const char **name) {
    *name = status == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : status == NO_PTX ? "CUDA_ERROR_INVALID_PTX" :
        status == NOT_FOUND ? "CUDA_ERROR_NOT_FOUND" : status == ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS" :
        status == CAPTURE_UNSUPPORTED ? "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" : "CUDA_ERROR_INVALID_VALUE";
    return OK;
}
