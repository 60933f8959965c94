"""The model as a pure function of JAX: `y = model(params, x, senders=..., receivers=...)`, under jit, grad, jvp, hessian, vmap and shard_map.

Each model of the library, the derivatives included, is a primitive; XLA calls the library itself, on the CPU or on a GPU of CUDA, there in the order of
XLA's stream, without waiting but for index tables, which the library reads on the host at each call. The derivative of a primitive is the primitive
of the model's `jvp`, which is linear in the tangents; the transpose of that is the primitive of the model's `vjp`. A model with two passes is
evaluated by `keep` where it is derived, and what that kept goes along with the tangents, for the transpose, which is `pullback`. What is kept is a
function of the arguments, and derivatives go by these: it has no derivatives of its own.
"""
import jax
import jax.numpy as jnp
import numpy
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from . import library as _library
from .batch import Batch as _Batch
from . import MODEL as _model
from . import NAME as _name


def _varying(x):
    """The axes of a mesh along which a value, given or abstract, differs from device to device, under shard_map."""
    aval = x if isinstance(x, jax.core.ShapedArray) else jax.typeof(x)
    manual = getattr(aval, "mat", None)
    return frozenset(getattr(aval, "vma", ()) if manual is None else manual.varying)


def _spread(x, axes):
    axes = tuple(axes - _varying(x))
    if not axes:
        return x
    return jax.lax.pcast(x, axes, to="varying") if hasattr(jax.lax, "pcast") else jax.lax.pvary(x, axes)


class _Operator:
    """The primitive of a model: inputs, then weights; static are the run-time sizes and how many of the outputs are wanted, the first ones."""

    def __init__(self, model):
        self.model = model
        self.arguments = model.inputs + model.weights
        self.vjp = model.vjp and _Operator(model.vjp)
        self.jvp = model.jvp and _Operator(model.jvp)
        # where a batch of what is kept would be a call an element, a batch of derivatives is one call without it
        passes = model.keep and _Batch(model.keep, len(model.keep.outputs)).possible
        self.keep, self.pullback = (_Operator(model.keep), _Operator(model.pullback)) if passes else (None, None)
        self.target = f"gdl_{model.name}"
        # for CUDA always: a library without a part for it says how to build one that has it
        for platform, entry in [("cpu", "xla"), ("CUDA", "xla_cuda")]:
            jax.ffi.register_ffi_target(self.target, jax.ffi.pycapsule(model.entry(entry)), platform=platform)
        self.primitive = Primitive(self.target)
        self.primitive.multiple_results = True
        self.compiled = jax.jit(self.call, static_argnames=("sizes", "wanted"))
        self.primitive.def_impl(self.checked)
        self.primitive.def_abstract_eval(self.abstract)
        mlir.register_lowering(self.primitive, mlir.lower_fun(self.call, multiple_results=True))
        batching.primitive_batchers[self.primitive] = self.batched
        ad.primitive_jvps[self.primitive] = self.differential
        if self.jvp:
            ad.primitive_transposes[self.jvp.primitive] = self.transposed
        if self.keep:
            self.beside = _BesideKept(self)
            ad.primitive_jvps[self.keep.primitive] = self.differential_of_keep
            ad.primitive_jvps[self.pullback.primitive] = self.differential_of_pullback

    def results(self, sizes, wanted):
        return [(a.shape(sizes), numpy.dtype(self.model.real)) for a in self.model.outputs[:wanted]]

    def call(self, *values, sizes, wanted):
        shapes = [jax.ShapeDtypeStruct(*result) for result in self.results(sizes, None)]
        return jax.ffi.ffi_call(self.target, shapes)(*values)[:wanted]

    def checked(self, *values, sizes, wanted):
        self.abstract(*values, sizes=sizes, wanted=wanted)
        return self.compiled(*values, sizes=sizes, wanted=wanted)

    def abstract(self, *values, sizes, wanted):
        for a, x in zip(self.arguments, values):
            if a.real and x.dtype != self.model.real:
                raise TypeError(f"`{a.name}` is {x.dtype}; the library was built for {self.model.real}: convert it, or build with --dtype")
            if not a.real and x.dtype not in ("int32", "int64"):
                raise TypeError(f"`{a.name}` is {x.dtype}, and needs int32 or int64")
            if tuple(x.shape) != a.shape(sizes):
                raise ValueError(f"`{a.name}` has the shape {tuple(x.shape)}, not {a.shape(sizes)}")
        if not any(map(_varying, values)):
            return [jax.core.ShapedArray(*result) for result in self.results(sizes, wanted)]
        like, spec = values[0], jax.sharding.PartitionSpec
        return [
            like.update(shape=shape, dtype=dtype, weak_type=False, sharding=like.sharding.update(spec=spec(*[None] * len(shape))))
            for shape, dtype in self.results(sizes, wanted)
        ]

    def bind(self, *values, sizes, wanted=None):
        """The outputs; they vary along the axes of a mesh along which anything given does, and so must all that is given."""
        axes = frozenset().union(*map(_varying, values))
        wanted = len(self.model.outputs) if wanted is None else wanted
        values = [_spread(x, axes) for x in values] if axes else values
        return self.primitive.bind(*values, sizes=sizes, wanted=wanted)

    def batched(self, values, axes, *, sizes, wanted):
        """One call for the batch, or for each part of it that memory allows; one an element where elements have weights of their own."""
        moved = [x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(values, axes)]
        own = [axis is not None for axis in axes]
        size = next(x.shape[0] for x, is_own in zip(moved, own) if is_own)
        batch = _Batch(self.model, wanted)

        def whole(part, count):
            part = iter(part)
            given = [next(part) if is_own else x for x, is_own in zip(moved, own)]
            if not batch.fits(own):
                return [y[None] for y in self.bind(*(x[0] if is_own else x for x, is_own in zip(given, own)), sizes=sizes, wanted=wanted)]
            given = batch.joined(jnp, given, own, sizes, count)
            return batch.split(self.bind(*given, sizes=tuple(batch.sizes(sizes, count)), wanted=wanted), sizes, count)

        count = batch.part(sizes, size) if batch.fits(own) else 1
        given = [x for x, is_own in zip(moved, own) if is_own]
        if count >= size:
            return whole(given, size), [0] * wanted
        full = size // count
        parts = [x[: full * count].reshape(full, count, *x.shape[1:]) for x in given]
        found = [y.reshape(full * count, *y.shape[2:]) for y in jax.lax.map(lambda part: whole(part, count), parts)]
        if size % count:
            rest = whole([x[full * count :] for x in given], size % count)
            found = [jnp.concatenate(pair) for pair in zip(found, rest)]
        return found, [0] * wanted

    def placed(self, values, changes):
        """The arguments of a derivative: the inputs, then the changes, then the weights."""
        n_inputs = len(self.model.inputs)
        return (*values[:n_inputs], *changes, *values[n_inputs:])

    def directions(self, values, tangents):
        """The arguments of `jvp`."""
        if self.jvp is None:
            raise NotImplementedError(self.model.needed())
        return self.placed(values, [ad.instantiate_zeros(t) for a, t in zip(self.arguments, tangents) if a.real])

    def changed(self, values, tangents, sizes, wanted):
        """The tangents of the outputs."""
        # says so where the library has no `jvp`
        directions = self.directions(values, tangents)
        return self.jvp.bind(*directions, sizes=sizes, wanted=wanted)

    def differential(self, values, tangents, *, sizes, wanted):
        if self.keep:
            found, changes = self.differential_of_keep(values, tangents, sizes=sizes, wanted=None)
            return found[:wanted], changes[:wanted]
        return self.bind(*values, sizes=sizes, wanted=wanted), self.changed(values, tangents, sizes, wanted)

    def differential_of_keep(self, values, tangents, *, sizes, wanted):
        directions, count = self.directions(values, tangents), len(self.model.outputs)
        found = self.keep.bind(*values, sizes=sizes)
        kept = found[count:]
        changes = self.beside.bind(*directions, *kept, sizes=sizes, wanted=count)
        still = [ad.Zero(jax.typeof(x).to_tangent_aval()) for x in kept]
        return found[:wanted], [*changes, *still][:wanted]

    def differential_of_pullback(self, values, tangents, *, sizes, wanted):
        found = self.pullback.bind(*values, sizes=sizes, wanted=wanted)
        begin, end = len(self.vjp.model.inputs), len(self.pullback.model.inputs)
        of_vjp = lambda given: [*given[:begin], *given[end:]]
        return found, self.vjp.changed(of_vjp(values), of_vjp(tangents), sizes, wanted)

    def transposed(self, cotangents, *values, sizes, wanted, kept=()):
        """The transpose of the differential, by the tangents that are not known."""
        n_inputs = len(self.model.inputs)
        n_changes = sum(a.real for a in self.arguments)
        changes = values[n_inputs:n_inputs + n_changes]
        own = (*values[:n_inputs], *values[n_inputs + n_changes:])
        if any(ad.is_undefined_primal(x) for x in own):
            raise NotImplementedError(f"gdl_{self.model.name}: the derivative is linear in the tangents alone")
        results = self.results(sizes, None)
        cotangents = [ad.instantiate_zeros(c) for c in cotangents] + [jnp.zeros(*result) for result in results[wanted:]]
        unknown = [k for k, t in enumerate(changes) if ad.is_undefined_primal(t)]
        derivative = self.pullback if kept else self.vjp
        found = derivative.bind(*self.placed(own, [*cotangents, *kept]), sizes=sizes, wanted=max(unknown) + 1)
        by_change = [found[k] if k in unknown else None for k in range(n_changes)]
        return [*[None] * n_inputs, *by_change, *[None] * len(self.model.weights)]


class _BesideKept:
    """The primitive of the `jvp` of an operator beside what its `keep` kept: `jvp`, whose transpose is `pullback`."""

    def __init__(self, operator):
        self.operator = operator
        self.count = len(operator.jvp.arguments)
        self.primitive = Primitive(f"{operator.jvp.target}_beside_kept")
        self.primitive.multiple_results = True
        self.primitive.def_impl(self.call)
        self.primitive.def_abstract_eval(lambda *values, **how: operator.jvp.abstract(*values[: self.count], **how))
        mlir.register_lowering(self.primitive, mlir.lower_fun(self.call, multiple_results=True))
        batching.primitive_batchers[self.primitive] = self.batched
        ad.primitive_jvps[self.primitive] = self.differential
        ad.primitive_transposes[self.primitive] = self.transposed

    def call(self, *values, sizes, wanted):
        return self.operator.jvp.bind(*values[: self.count], sizes=sizes, wanted=wanted)

    def bind(self, *values, sizes, wanted):
        axes = frozenset().union(*map(_varying, values))
        return self.primitive.bind(*(_spread(x, axes) for x in values), sizes=sizes, wanted=wanted)

    def batched(self, values, axes, *, sizes, wanted):
        own = values[: self.count], axes[: self.count]
        if all(axis is None for axis in own[1]):
            return self.call(*own[0], sizes=sizes, wanted=wanted), [None] * wanted
        return self.operator.jvp.batched(*own, sizes=sizes, wanted=wanted)

    def differential(self, values, tangents, *, sizes, wanted):
        found = self.bind(*values, sizes=sizes, wanted=wanted)
        return found, self.operator.jvp.changed(values[: self.count], tangents[: self.count], sizes, wanted)

    def transposed(self, cotangents, *values, sizes, wanted):
        own, kept = values[: self.count], values[self.count :]
        found = self.operator.transposed(cotangents, *own, sizes=sizes, wanted=wanted, kept=kept)
        return [*found, *[None] * len(kept)]


_call = _Operator(_model)


def _array(x):
    return x if isinstance(x, jax.Array) else jnp.asarray(x)


def _greatest(index):
    try:
        # by NumPy: under a transformation JAX would not tell the numbers of what is known
        return int(numpy.asarray(index).max())
    except jax.errors.TracerArrayConversionError:
        raise TypeError("how many samples there are follows from `index`, which is not known under a transformation: give `samples=`") from None


def model(params, *arguments, **tables):
    """The outputs for weights by name (a dict of arrays, as safetensors reads them). One output alone is returned as it is.

    The model's arguments come in order, the tables of its domains by the last word of their names (`senders=`, `receivers=`, `index=`), and,
    where no shape says it, a size by its name (`samples=`; else it follows from `index`, where that is known).
    """
    inputs, given = _library.arrange(_model, arguments, tables, lambda x: numpy.ndim(x) > 0)
    inputs = [x if x is None or hasattr(x, "shape") else jnp.asarray(x) for x in inputs]
    inputs, given = _library.completed(_model, inputs, given, lambda n: numpy.zeros(n, dtype="int32"), _greatest)
    inputs = [_array(x) for x in inputs]
    missing = [a.name for a in _model.weights if a.name not in params]
    if missing:
        raise TypeError(f"the weight `{missing[0]}` is missing")
    values = [*inputs, *(_array(params[a.name]) for a in _model.weights)]
    sizes = tuple(int(n) for n in _model.solve([x.shape for x in inputs], given))
    found = _call.bind(*values, sizes=sizes)
    return found[0] if len(found) == 1 else tuple(found)


def initial(key):
    """Weights as they are derived to start, a dict by name."""
    weights = {}
    for a, k in zip(_model.weights, jax.random.split(key, max(len(_model.weights), 1))):
        kind, scale = a.about.removeprefix("starts as ").split(" ")
        dtype = jnp.dtype(_model.real)
        start = jax.random.normal(k, a.shape([]), dtype) if kind == "normal" else jnp.ones(a.shape([]), dtype)
        weights[a.name] = float(scale) * start
    return weights


model.__name__ = model.__qualname__ = _name
globals()[_name] = model
