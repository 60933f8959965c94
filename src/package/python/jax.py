"""The model as a pure function of JAX: `y = model(params, x, senders=..., receivers=...)`, under jit, grad, jvp, hessian, vmap and shard_map.

Each model of the library, the derivatives included, is a primitive; XLA calls the library itself. The derivative of a primitive is the primitive
of the model's `jvp`, which is linear in the tangents; the transpose of that is the primitive of the model's `vjp`.
"""
import jax
import jax.numpy as jnp
import numpy
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from . import library as _library
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
    """The primitive of a model: inputs, then weights; the run-time sizes are static."""

    def __init__(self, model):
        self.model = model
        self.arguments = model.inputs + model.weights
        self.vjp = model.vjp and _Operator(model.vjp)
        self.jvp = model.jvp and _Operator(model.jvp)
        self.target = f"gdl_{model.name}"
        jax.ffi.register_ffi_target(self.target, jax.ffi.pycapsule(model.entry("xla")), platform="cpu")
        self.primitive = Primitive(self.target)
        self.primitive.multiple_results = True
        self.compiled = jax.jit(self.call, static_argnames="sizes")
        self.primitive.def_impl(self.checked)
        self.primitive.def_abstract_eval(self.abstract)
        mlir.register_lowering(self.primitive, mlir.lower_fun(self.call, multiple_results=True))
        batching.primitive_batchers[self.primitive] = self.batched
        ad.primitive_jvps[self.primitive] = self.differential
        if self.jvp:
            ad.primitive_transposes[self.jvp.primitive] = self.transposed

    def results(self, sizes):
        return [(a.shape(sizes), numpy.dtype(self.model.real)) for a in self.model.outputs]

    def call(self, *values, sizes):
        shapes = [jax.ShapeDtypeStruct(*result) for result in self.results(sizes)]
        return jax.ffi.ffi_call(self.target, shapes)(*values)

    def checked(self, *values, sizes):
        self.abstract(*values, sizes=sizes)
        return self.compiled(*values, sizes=sizes)

    def abstract(self, *values, sizes):
        for a, x in zip(self.arguments, values):
            if a.real and x.dtype != self.model.real:
                raise TypeError(f"`{a.name}` is {x.dtype}; the library was built for {self.model.real}: convert it, or build with --dtype")
            if not a.real and x.dtype not in ("int32", "int64"):
                raise TypeError(f"`{a.name}` is {x.dtype}; indices are int32 or int64")
            if tuple(x.shape) != a.shape(sizes):
                raise ValueError(f"`{a.name}` has the shape {tuple(x.shape)}, not {a.shape(sizes)}")
        if not any(map(_varying, values)):
            return [jax.core.ShapedArray(*result) for result in self.results(sizes)]
        like, spec = values[0], jax.sharding.PartitionSpec
        return [
            like.update(shape=shape, dtype=dtype, weak_type=False, sharding=like.sharding.update(spec=spec(*[None] * len(shape))))
            for shape, dtype in self.results(sizes)
        ]

    def bind(self, *values, sizes):
        """The outputs; they vary along the axes of a mesh along which anything given does, and so must all that is given."""
        axes = frozenset().union(*map(_varying, values))
        return self.primitive.bind(*(_spread(x, axes) for x in values), sizes=sizes)

    def batched(self, values, axes, *, sizes):
        """One call an element of the batch."""
        moved = [x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(values, axes)]

        def element(batch):
            batch = iter(batch)
            return self.bind(*(x if axis is None else next(batch) for x, axis in zip(moved, axes)), sizes=sizes)

        found = jax.lax.map(element, [x for x, axis in zip(moved, axes) if axis is not None])
        return found, [0] * len(found)

    def placed(self, values, changes):
        """The arguments of a derivative: the inputs, then the changes, then the weights."""
        n_inputs = len(self.model.inputs)
        return (*values[:n_inputs], *changes, *values[n_inputs:])

    def differential(self, values, tangents, *, sizes):
        if self.jvp is None:
            raise NotImplementedError(self.model.needed())
        changes = [ad.instantiate_zeros(t) for a, t in zip(self.arguments, tangents) if a.real]
        found = self.bind(*values, sizes=sizes)
        return found, self.jvp.bind(*self.placed(values, changes), sizes=sizes)

    def transposed(self, cotangents, *values, sizes):
        """The transpose of the differential, by the tangents that are not known."""
        n_inputs = len(self.model.inputs)
        n_changes = sum(a.real for a in self.arguments)
        changes = values[n_inputs:n_inputs + n_changes]
        own = (*values[:n_inputs], *values[n_inputs + n_changes:])
        if any(ad.is_undefined_primal(x) for x in own):
            raise NotImplementedError(f"gdl_{self.model.name}: the derivative is linear in the tangents alone")
        cotangents = [ad.instantiate_zeros(c) for c in cotangents]
        found = iter(self.vjp.bind(*self.placed(own, cotangents), sizes=sizes))
        by_change = [g if ad.is_undefined_primal(t) else None for t, g in zip(changes, found)]
        return [*[None] * n_inputs, *by_change, *[None] * len(self.model.weights)]


_call = _Operator(_model)


def _last(index):
    try:
        return int(index[-1])
    except jax.errors.ConcretizationTypeError:
        raise TypeError("how many samples there are follows from `index`, which is not known under a transformation: give `samples=`") from None


def model(params, *arguments, **tables):
    """The outputs for weights by name (a dict of arrays, as safetensors reads them). One output alone is returned as it is.

    The model's arguments come in order, the tables of its domains by the last word of their names (`senders=`, `receivers=`, `index=`), and,
    where no shape says it, a size by its name (`samples=`; else it follows from `index`, where that is known).
    """
    inputs, given = _library.arrange(_model, arguments, tables, lambda x: numpy.ndim(x) > 0)
    inputs = [x if x is None else jnp.asarray(x) for x in inputs]
    inputs, given = _library.completed(_model, inputs, given, lambda n: jnp.zeros(n, dtype="int32"), _last)
    missing = [a.name for a in _model.weights if a.name not in params]
    if missing:
        raise TypeError(f"the weight `{missing[0]}` is missing")
    values = [*inputs, *(jnp.asarray(params[a.name]) for a in _model.weights)]
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
