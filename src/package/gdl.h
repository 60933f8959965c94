#ifndef GDL_COMMON
#define GDL_COMMON
#include <stdint.h>

/* DLPack's tensor; leave these out where dlpack.h is included first. */
#ifndef DLPACK_DLPACK_H_
typedef struct { int32_t device_type; int32_t device_id; } DLDevice;
typedef struct { uint8_t code; uint8_t bits; uint16_t lanes; } DLDataType; /* code: 0 int, 2 float */
typedef struct {
    void *data;
    DLDevice device; /* { 1, 0 }: the CPU; { 2, n }: GPU n of CUDA */
    int32_t ndim;
    DLDataType dtype;
    int64_t *shape;
    int64_t *strides; /* null: row-major */
    uint64_t byte_offset;
} DLTensor;
#endif

#define GDL_VERSION 3
#define GDL_VERSION_CUDA 4
enum { GDL_OK = 0, GDL_INVALID = 1, GDL_UNSUPPORTED = 2, GDL_NO_MEMORY = 3, GDL_CUDA_FAILED = 4 };

/* What a thread keeps: set version to GDL_VERSION, the rest to zero. After a failure `message` says why. */
typedef struct {
    uint32_t version;
    uint32_t threads; /* at most so many; 0: GDL_NUM_THREADS, else the processors available */
    void (*parallel_for)(void *host, int64_t begin, int64_t end, int64_t grain,
        void (*body)(const void *data, int64_t begin, int64_t end), const void *data); /* null: own threads */
    void *host;
    char message[512];
} gdl_context;

/* To compute on a GPU (libraries of `gdlc build --target cuda`): set context.version to GDL_VERSION_CUDA and pass &context everywhere. The
 * CUDA context that is current in the thread is used (where there is none, the stream's, of a default stream that of CUDA's runtime),
 * everything is done in the order of the stream, and nothing waits for it. Tensors are
 * on the GPU, but for index tables, which bind reads on the CPU (run takes them on either, and waits for those on the GPU). The memories are
 * five: bound, prepared, workspace on the GPU, then on the CPU what bind and prepare keep of the first two. run waits for its results. An
 * index given at a call and out of its range stops the GPU (a failed launch). */
typedef struct {
    gdl_context context;
    DLDevice device; /* { 2, n }; { 1, 0 } computes on the CPU */
    void *stream; /* CUstream, cudaStream_t; null: the default one */
} gdl_cuda_context;

typedef struct { void *data; int64_t bytes; } gdl_memory;

typedef struct { int64_t var, scale, offset, divisor; } gdl_size; /* (scale * sizes[var] + offset) / divisor */

typedef struct {
    const char *name;
    const char *about;
    int64_t rank;
    const gdl_size *dims;
    uint32_t element; /* 0: real, 1: indices given at bind, 2: indices given at call */
    uint32_t sorted;
    gdl_size range; /* indices are below it */
} gdl_tensor_info;

typedef struct { const char *key, *value; } gdl_fact;

typedef struct gdl_model {
    uint32_t version;
    uint32_t real; /* 0: float32, 1: float64 */
    const char *name;
    int64_t n_sizes;
    const char *const *sizes;
    int64_t n_inputs;
    const gdl_tensor_info *inputs;
    int64_t n_weights;
    const gdl_tensor_info *weights;
    int64_t n_outputs;
    const gdl_tensor_info *outputs;
    int64_t n_facts;
    const gdl_fact *facts;
    int (*sizes_of)(gdl_context *, const DLTensor *const *inputs, int64_t *sizes);
    int (*memory)(gdl_context *, const int64_t *sizes, gdl_memory *memory);
    int (*bind)(gdl_context *, const DLTensor *const *inputs, const int64_t *sizes, const gdl_memory *memory);
    int (*prepare)(gdl_context *, const DLTensor *const *weights, const gdl_memory *memory);
    int (*call)(gdl_context *, const DLTensor *const *inputs, const DLTensor *const *outputs, const gdl_memory *memory);
    int (*run)(gdl_context *, const DLTensor *const *inputs, const DLTensor *const *weights,
        const DLTensor *const *outputs);
    /* The derivatives by reverse mode, a model like this one, or null: its inputs are these and then `grad.y` for each output y; its weights are these; its
     * outputs are `grad.x` for each real input x and then for each weight: the sum over y of dy/dx times grad.y. */
    const struct gdl_model *vjp;
    /* The derivatives by forward mode, or null: its inputs are these, then `dot.x` for each real input x and then for each weight; its
     * weights are these; its outputs are `dot.y` for each output y: the sum over x of dy/dx times dot.x. */
    const struct gdl_model *jvp;
    /* The derivatives by reverse mode in two passes, which compute nothing twice; both null where there is nothing worth keeping. `keep` takes what
     * this model takes and gives what it gives, and then `kept.0`, `kept.1`, ..; `pullback` takes what `vjp` takes, its weights, and after
     * its inputs what was kept for the same inputs and weights, and gives what `vjp` gives. */
    const struct gdl_model *keep;
    const struct gdl_model *pullback;
} gdl_model;
#endif
