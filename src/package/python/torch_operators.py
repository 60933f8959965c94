"""The models of a library as operators of PyTorch's dispatcher, with fake kernels, batching and derivatives by both modes, to the order the library
was built with (`gdlc build --grad N`). The library's own kernel serves them through LibTorch's stable C interface, on the CPU and on GPUs of CUDA;
where this PyTorch is older than that, or GDL_TORCH=python, a kernel in Python does, on the CPU. A process registers them once, however often `torch`
beside this file is loaded.

On a GPU everything is done on PyTorch's current stream, and nothing waits, but for index tables that are on the GPU: the library reads these on the
host at each call. Tables may stay on the CPU."""
import ctypes
import os

import torch
import torch.autograd.forward_ad as _forward
from torch._functorch.autograd_function import enable_single_level_autograd_function as _one_level
from torch.autograd.function import _SingleLevelFunction

from .batch import Batch as _Batch
from . import CLASS as _class
from . import MODEL as _model
from . import NAME as _name

_REAL = getattr(torch, _model.real)
_DTYPES = {torch.float32: "float32", torch.float64: "float64", torch.int32: "int32", torch.int64: "int64"}
_namespace = torch.library.Library(f"gdl_{_name}", "DEF")
_is_compiling, _is_tracing, _is_grad_enabled = torch.compiler.is_compiling, torch._C._is_tracing, torch.is_grad_enabled
_transforms, _below_autograd = torch._C._are_functorch_transforms_active, torch._C._AutoDispatchBelowAutograd
_is_inference, _modes = torch.is_inference_mode_enabled, torch._C._len_torch_dispatch_stack
_WHOLE = torch._C._after_autograd_keyset
_is_included, _BEFORE_DISPATCH = torch._C._dispatch_tls_is_dispatch_key_included, torch._C.DispatchKey.PreDispatch


def _checked(argument, x):
    """The tensor as the library reads it; or an error that says what to do."""
    if x.device.type != "cpu":
        advice = "; CUDA needs PyTorch's stable C interface (PyTorch 2.9, GDL_TORCH not `python`)" if x.is_cuda and not SHIM else ""
        raise RuntimeError(f"`{argument.name}` is on {x.device}; this library computes on the CPU here{advice}: move it with `.cpu()`")
    _check_type(argument, x)
    return x.detach().contiguous()


def _check_type(argument, x):
    if argument.real and x.dtype != _REAL:
        raise RuntimeError(f"`{argument.name}` is {x.dtype}; the library was built for {_REAL}: convert it, or build with --dtype")
    if not argument.real and x.dtype not in (torch.int32, torch.int64):
        raise RuntimeError(f"`{argument.name}` is {x.dtype}, and needs torch.int32 or torch.int64")


def _view(x):
    return x.data_ptr(), tuple(x.shape), _DTYPES[x.dtype]


_TENSORS = [
    "get_data_ptr", "get_dim", "get_sizes", "get_strides", "get_dtype", "get_device_type", "get_device_index", "empty_strided", "copy_",
    "delete_tensor_object",
]  # fmt: skip
_LISTS = ["torch_list_size", "torch_list_get_item", "torch_delete_list", "torch_new_list_reserve_size", "torch_list_push_back"]
_CUDA = ["create_cuda_guard", "delete_cuda_guard", "get_current_cuda_stream"]


class _Shim:
    """The functions of LibTorch that the library's kernel needs, and those that register it."""

    def __init__(self):
        folder = os.path.join(os.path.dirname(torch.__file__), "lib")
        cpu = ctypes.CDLL(os.path.join(folder, "libtorch_cpu.so"))
        self.new, self.implement = cpu.aoti_torch_library_init_impl, cpu.aoti_torch_library_impl
        found = [getattr(cpu, name) for name in (*(f"aoti_torch_{name}" for name in _TENSORS), *_LISTS, "aoti_torch_check")]
        try:
            cuda = ctypes.CDLL(os.path.join(folder, "libtorch_cuda.so"))
            found += [getattr(cuda, f"aoti_torch_{name}") for name in _CUDA]
        except (OSError, AttributeError):  # this PyTorch is for the CPU
            found += [None] * len(_CUDA)
        self.table = (ctypes.c_void_p * len(found))(*(f and ctypes.cast(f, ctypes.c_void_p).value for f in found))
        _model.entry("torch_functions")(self.table)
        self.handles = {}
        for key in ["CPU", "CUDA"]:
            self.handles[key] = ctypes.c_void_p()
            if self.new(f"gdl_{_name}".encode(), key.encode(), b"torch.py", 0, ctypes.byref(self.handles[key])):
                raise AttributeError(f"PyTorch takes no kernels for {key}")

    def register(self, word, entry):
        """Makes the library's entry the kernel of an operator; whether PyTorch takes it."""
        return not any(self.implement(handle, word.encode(), entry) for handle in self.handles.values())


def _shim():
    if os.environ.get("GDL_TORCH") == "python":
        return None
    try:
        return _Shim()
    except (OSError, AttributeError):
        return None


SHIM = _shim()


def _is_seen():
    """Whether a mode of the dispatcher sees the operators that are called, and may record them."""
    return _modes() > 0 or _is_included(_BEFORE_DISPATCH)


class _Operator:
    """The operator of a model: a list of the inputs and then the weights, a list of all run-time sizes, how many of the outputs are wanted, the
    first ones; the outputs are a list too, for without lists an operator has at most 64 arguments. Its derivatives are the operators of
    `model.vjp` and `model.jvp`. Where it is to be derived backwards once, its forward pass is the operator of `model.keep`, and its backward pass
    that of `model.pullback`.

    The overload `plain` knows of no derivatives, so that the dispatcher goes straight to the library where there are none to take."""

    def __init__(self, model):
        self.model = model
        self.arguments = model.inputs + model.weights
        self.vjp = model.vjp and _Operator(model.vjp)
        self.jvp = model.jvp and _Operator(model.jvp)
        self.keep = model.keep and _Operator(model.keep)
        self.pullback = model.pullback and _Operator(model.pullback)
        word = model.name.removeprefix(f"{_name}_") if model.order else "forward"
        for overload in [word, f"{word}.plain"]:
            self.define(overload)
        found = getattr(getattr(torch.ops, f"gdl_{_name}"), word)
        self.call, self.plain = found.default, found.plain._op
        # where the outputs are: a table may be on the CPU for a call on a GPU
        self.like = next((k for k, a in enumerate(self.arguments) if not a.table), 0)
        torch.library.register_vmap(f"gdl_{_name}::{word}", self.batched, lib=_namespace)
        # the transforms of torch.func come to the operator one by one, so that its function is of one level
        self.function = type(f"{_class}_{word}", (_SingleLevelFunction,), _function(self))
        _namespace.impl(word, self.differentiable, "Autograd", with_keyset=True)
        _namespace.impl(f"{word}.plain", torch.library.fallthrough_kernel, "Autograd")

    def define(self, name):
        """An operator with the kernels that compute it."""
        _namespace.define(f"{name}(Tensor[] tensors, SymInt[] sizes, int wanted) -> Tensor[]", tags=(torch.Tag.pt2_compliant_tag,))
        native = SHIM and SHIM.register(name, self.model.entry("torch"))
        for device in ["MPS", "XPU"] if native else ["CPU", "CUDA", "MPS", "XPU"]:
            _namespace.impl(name, self.kernel, device)
        torch.library.register_fake(f"gdl_{_name}::{name}", self.fake, lib=_namespace)

    def kernel(self, tensors, sizes, wanted):
        tensors = [_checked(a, x) for a, x in zip(self.arguments, tensors)]
        outputs = [torch.empty(a.shape(sizes), dtype=_REAL) for a in self.model.outputs]
        self.model.run([_view(x) for x in (*tensors, *outputs)])
        return outputs[:wanted]

    def fake(self, tensors, sizes, wanted):
        for a, x in zip(self.arguments, tensors):
            _check_type(a, x)
        return [tensors[self.like].new_empty(a.shape(sizes), dtype=_REAL) for a in self.model.outputs[:wanted]]

    def batched(self, info, in_dims, tensors, sizes, wanted):
        """One call for the batch, or for each part of it that memory allows; one an element where elements have weights of their own."""
        own = [d is not None for d in in_dims[0]]
        moved = [x.movedim(d, 0) if d is not None else x for x, d in zip(tensors, in_dims[0])]
        batch, found = _Batch(self.model, wanted), []
        if batch.fits(own):
            count = batch.part(sizes, info.batch_size)
            for begin in range(0, info.batch_size, count):
                size = min(count, info.batch_size - begin)
                given = [x[begin : begin + size] if is_own else x for x, is_own in zip(moved, own)]
                given = batch.joined(torch, given, own, sizes, size)
                found.append(batch.split(self.call(given, batch.sizes(sizes, size), wanted), sizes, size))
        else:
            for k in range(info.batch_size):
                given = [x[k] if is_own else x for x, is_own in zip(moved, own)]
                found.append([y[None] for y in self.call(given, sizes, wanted)])
        if not found:
            raise RuntimeError(f"gdl_{_name}: vmap over a batch of no elements")
        return [parts[0] if len(parts) == 1 else torch.cat(parts) for parts in zip(*found)], [0] * wanted

    def __call__(self, tensors, sizes, wanted):
        """`self.call`; where nothing stands above derivatives, past the dispatcher's way to them and back."""
        if _is_tracing():
            raise RuntimeError(f"gdl_{_name}: `torch.jit.trace` does not record operators on lists of tensors: use `torch.export`")
        if _is_compiling() or _transforms() or _is_seen():
            return self.call(tensors, sizes, wanted)
        if self.needed(tensors):
            return list(self.function.apply(None, self.keeps(), sizes, wanted, *tensors))
        return self.plain(tensors, sizes, wanted)

    def needed(self, tensors):
        """Whether derivatives are, in the backward pass or along."""
        if _is_grad_enabled():
            for x in tensors:
                if x.requires_grad:
                    return not _is_inference()
        if _forward._current_level < 0:
            return False
        return any(x.is_floating_point() and _forward.unpack_dual(x).tangent is not None for x in tensors)

    def keeps(self):
        """Whether the forward pass keeps what the backward pass reads; transforms derive the backward pass too, which then goes by the arguments, and
        who records a forward pass may derive the record."""
        return self.keep is not None and _is_grad_enabled() and not _transforms() and (_is_compiling() or not _is_seen())

    def below(self, keys, tensors, sizes, wanted):
        if keys is None:
            return self.plain(tensors, sizes, wanted)
        with _below_autograd():
            return self.call.redispatch(keys & _WHOLE, tensors, sizes, wanted)

    def differentiable(self, keys, tensors, sizes, wanted):
        if not self.needed(tensors):
            return self.below(keys, tensors, sizes, wanted)
        if not _transforms():
            return list(self.function.apply(keys, self.keeps(), sizes, wanted, *tensors))
        with _one_level():
            return list(self.function.apply(keys, False, sizes, wanted, *tensors))

    def derivative(self, operator, tensors, changes, sizes, wanted):
        """The operator of a derivative: its inputs are those of this one and then the changes, and what was kept."""
        if operator is None:
            raise RuntimeError(self.model.needed())
        n_inputs = len(self.model.inputs)
        return operator([*tensors[:n_inputs], *changes, *tensors[n_inputs:]], sizes, wanted)


def _function(operator):
    """What `torch.autograd.Function` needs for an operator; the set of dispatch keys, whether to keep, the sizes and the number of outputs come
    first."""
    model = operator.model
    reals = [k for k, a in enumerate(operator.arguments) if a.real]
    count = len(operator.arguments)

    def forward(ctx, keys, keeps, sizes, wanted, *tensors):
        ctx.sizes, ctx.wanted, kept = sizes, wanted, []
        if _forward._current_level >= 0:
            ctx.save_for_forward(*tensors)
        if keeps and any(ctx.needs_input_grad):
            found = operator.keep.below(keys, tensors, sizes, len(operator.keep.model.outputs))
            found, kept = found[:wanted], found[len(model.outputs) :]
        elif not _transforms():
            found = operator.below(keys, tensors, sizes, wanted)
        else:
            # the transforms further out derive what is below
            with torch.enable_grad(), _forward._set_fwd_grad_enabled(True):
                found = operator.below(keys, tensors, sizes, wanted)
        ctx.save_for_backward(*tensors, *kept)
        return tuple(found)

    def backward(ctx, *cotangents):
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad[4:]
        tensors, kept = saved[:count], saved[count:]
        rest = [tensors[operator.like].new_zeros(a.shape(ctx.sizes), dtype=_REAL) for a in model.outputs[ctx.wanted :]]
        # up to the last that is needed; the library computes them all
        wanted = max((n for n, k in enumerate(reals, 1) if needed[k]), default=0)
        if kept and not _is_grad_enabled() and not _transforms() and _forward._current_level < 0:
            found = operator.derivative(operator.pullback, tensors, [*cotangents, *rest, *kept], ctx.sizes, wanted)
        else:
            # a backward pass that is derived in its turn goes by the arguments
            found = operator.derivative(operator.vjp, tensors, [*cotangents, *rest], ctx.sizes, wanted)
        gradients = [None] * len(tensors)
        for k, gradient in zip(reals, found):
            gradients[k] = gradient
        return (None, None, None, None, *gradients)

    def jvp(ctx, _keys, _keeps, _sizes, _wanted, *tangents):
        real = [(x, t) for a, x, t in zip(operator.arguments, ctx.saved_tensors, tangents) if a.real]
        changes = [torch.zeros_like(x) if t is None else t for x, t in real]
        return tuple(operator.derivative(operator.jvp, ctx.saved_tensors, changes, ctx.sizes, ctx.wanted))

    return {f.__name__: staticmethod(f) for f in (forward, backward, jvp)}


call = _Operator(_model)
