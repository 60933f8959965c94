/* What a library of gdlc asks of TVM-FFI (`libtvm_ffi.so`), for tests: an allocator whose memory is that of `simulated_gpu`, the stream 7, and the
 * last error. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct { void *data; int32_t device[2], ndim, dtype; int64_t *shape, *strides; uint64_t byte_offset; } tensor;
typedef struct { uint64_t head[3]; tensor tensor; } object;

static uint64_t (*allocate)(uint64_t);
static int (*release)(uint64_t);
static int64_t live;
static char error[600];

void tvm_start(uint64_t (*a)(uint64_t), int (*r)(uint64_t)) { allocate = a, release = r, live = 0; }
const char *tvm_error(void) { return error; }
int64_t tvm_live(void) { return live; }

void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) { snprintf(error, sizeof error, "%s: %s", kind, message); }
void *TVMFFIEnvGetStream(int32_t kind, int32_t device) { return (void *)(intptr_t)(kind == 2 && device == 0 ? 7 : 0); }
void *TVMFFIEnvGetDLPackManagedTensorAllocator(void) { return (void *)(intptr_t)allocate; }

int TVMFFIEnvTensorAlloc(tensor *like, void **out) {
    if (like->ndim != 1 || like->device[0] != 2) return -1;
    object *made = calloc(1, sizeof *made);
    made->tensor = *like;
    made->tensor.data = (void *)(uintptr_t)allocate((uint64_t)like->shape[0]);
    live++;
    return *out = made, made->tensor.data ? 0 : -1;
}

int TVMFFIObjectDecRef(void *o) {
    release((uint64_t)(uintptr_t)((object *)o)->tensor.data);
    live--;
    return free(o), 0;
}
