"""A library that gdlc made, through ctypes: its models, what they take, one call.

Tensors come in as (address, shape, dtype) and must be row-major, on the CPU, alive during the call.
"""
import ctypes
import os
import threading

VERSION = 3
REALS = {0: "float32", 1: "float64"}
CODES = {"float32": (2, 32), "float64": (2, 64), "int32": (0, 32), "int64": (0, 64)}


class _DataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32),
        ("dtype", _DataType), ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Context(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_uint32), ("threads", ctypes.c_uint32), ("parallel_for", ctypes.c_void_p),
        ("host", ctypes.c_void_p), ("message", ctypes.c_char * 512),
    ]


class _Size(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("var", "scale", "offset", "divisor")]


class _Info(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p), ("about", ctypes.c_char_p), ("rank", ctypes.c_int64), ("dims", ctypes.POINTER(_Size)),
        ("element", ctypes.c_uint32), ("sorted", ctypes.c_uint32), ("range", _Size),
    ]


class _Model(ctypes.Structure):
    pass


_Model._fields_ = [
    ("version", ctypes.c_uint32), ("real", ctypes.c_uint32), ("name", ctypes.c_char_p),
    ("n_sizes", ctypes.c_int64), ("sizes", ctypes.POINTER(ctypes.c_char_p)),
    ("n_inputs", ctypes.c_int64), ("inputs", ctypes.POINTER(_Info)),
    ("n_weights", ctypes.c_int64), ("weights", ctypes.POINTER(_Info)),
    ("n_outputs", ctypes.c_int64), ("outputs", ctypes.POINTER(_Info)),
    ("n_facts", ctypes.c_int64), ("facts", ctypes.c_void_p),
    ("sizes_of", ctypes.c_void_p), ("memory", ctypes.c_void_p), ("bind", ctypes.c_void_p), ("prepare", ctypes.c_void_p),
    ("call", ctypes.c_void_p), ("run", ctypes.c_void_p),
    *((name, ctypes.POINTER(_Model)) for name in ("vjp", "jvp", "keep", "pullback")),
]


class Argument:
    """What a model takes or gives: its name, its axes, whether it holds real numbers."""

    def __init__(self, info):
        self.name = info.name.decode()
        self.about = info.about.decode()
        self.dims = [(d.var, d.scale, d.offset, d.divisor) for d in info.dims[: info.rank]]
        self.real = info.element == 0
        self.table = info.element == 1
        self.range = (info.range.var, info.range.scale, info.range.offset, info.range.divisor)

    def shape(self, sizes):
        """The shape for these run-time sizes."""
        return tuple((scale * (sizes[var] if scale else 0) + offset) // divisor for var, scale, offset, divisor in self.dims)


class _Memory(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("bytes", ctypes.c_int64)]


_RUN = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_MEMORY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int64), ctypes.POINTER(_Memory))
_local = threading.local()


class Model:
    """One model of the library. `vjp` and `jvp` are the models of its derivatives by reverse and forward mode, or None, `keep` and `pullback`
    those of the two passes of `vjp`: what the first gives after the model's outputs, the second takes after the cotangents. `order` says how
    many derivatives the model is itself."""

    def __init__(self, table, library, order=0):
        self.name = table.name.decode()
        self.library = library
        self.order = order
        self.real = REALS[table.real]
        self.sizes = [table.sizes[k].decode() for k in range(table.n_sizes)]
        self.inputs = [Argument(table.inputs[k]) for k in range(table.n_inputs)]
        self.weights = [Argument(table.weights[k]) for k in range(table.n_weights)]
        self.outputs = [Argument(table.outputs[k]) for k in range(table.n_outputs)]
        self._run = _RUN(table.run)
        self._memory = _MEMORY(table.memory)
        derivative = lambda at: Model(at.contents, library, order + 1) if at else None
        self.vjp, self.jvp = derivative(table.vjp), derivative(table.jvp)
        self.keep, self.pullback = derivative(table.keep), derivative(table.pullback)
        self._fits = {}
        self._ranks = [len(a.dims) for a in self.inputs]
        self._found = [(name, self._where(var), self._read(var)) for var, name in enumerate(self.sizes)]
        # those that no shape says
        self.asked = [name for name, found, read in self._found if found is None and read]

    def entry(self, host):
        """The function by which a host calls the model."""
        return getattr(self.library, f"gdl_{self.name}_{host}")

    def _where(self, var):
        """Where a size is found: an input, its axis, and what to do with the length; an axis that is the size itself, if there is one."""
        places = [
            ((scale, offset, divisor) != (1, 0, 1), k, axis, scale, offset, divisor)
            for k, argument in enumerate(self.inputs)
            for axis, (v, scale, offset, divisor) in enumerate(argument.dims)
            if scale and v == var
        ]
        return min(places, default=None)

    def _read(self, var):
        """Whether anything that the model takes or gives has the size."""
        return any(scale and v == var for a in self.inputs + self.outputs for v, scale, _, _ in (*a.dims, a.range))

    def solve(self, shapes, given={}):
        """The run-time sizes, from the given ones and the shapes of the inputs; TypeError where neither says, and where inputs are missing or too
        many; ValueError where they disagree."""
        if len(shapes) != len(self.inputs):
            names = ", ".join(a.name for a in self.inputs)
            raise TypeError(f"`{self.name}` takes {len(self.inputs)} inputs ({names}), {len(shapes)} were given")
        if [len(shape) for shape in shapes] != self._ranks:
            for argument, shape in zip(self.inputs, shapes):
                if len(shape) != len(argument.dims):
                    raise ValueError(f"`{argument.name}` has {len(shape)} axes, not {len(argument.dims)}: shape {tuple(shape)}")
        sizes = []
        for name, found, read in self._found:
            if found is not None:
                inexact, k, axis, scale, offset, divisor = found
                n = shapes[k][axis]
                n = (n * divisor - offset) // scale if inexact else n
                if name in given and given[name] != n:
                    raise ValueError(f"the size `{name}` is {given[name]}, and {n} by axis {axis} of `{self.inputs[k].name}`")
            elif name in given:
                n = given[name]
                if n < 0:
                    raise ValueError(f"the size `{name}` is {n}")
            elif read:
                raise TypeError(f"the size `{name}` follows from no input: give it by name")
            else:
                n = 0
            sizes.append(n)
        return sizes

    def agree(self, shapes, sizes):
        """ValueError where an input has another shape than the sizes say."""
        for argument, shape in zip(self.inputs, shapes):
            for axis, (n, needed) in enumerate(zip(shape, argument.shape(sizes))):
                if n != needed:
                    raise ValueError(f"input `{argument.name}`: axis {axis} has {n} elements, and needs {needed}")

    def fit(self, shapes, given={}):
        """The run-time sizes and the shapes of the outputs for inputs of these shapes, which all fit; errors as of `solve` and `agree`."""
        found = None if given else self._fits.get(shapes)
        if found is None:
            sizes = self.solve(shapes, given)
            self.agree(shapes, sizes)
            found = sizes, [a.shape(sizes) for a in self.outputs]
            if not given:
                _keep(self._fits, shapes, found)
        return found

    def needed(self):
        """Says how to build a library that has the derivatives of this model."""
        return f"the library has derivatives to order {self.order}; build it again with `gdlc build --grad {self.order + 1}`"

    def run(self, tensors):
        """Computes the outputs. The tensors are inputs, then weights, then outputs, each (address, shape, dtype)."""
        described = _describe(tuple([tensor[1:] for tensor in tensors]))
        for view, tensor in zip(described.views, tensors):
            view.data = tensor[0]
        inputs, context = described.pointers, described.context
        weights = inputs + 8 * len(self.inputs)
        if self._run(described.context_at, inputs, weights, weights + 8 * len(self.weights)) != 0:
            raise ValueError(context.message.decode(errors="replace"))

    def bytes(self, sizes):
        """The memory that a call with these sizes works in."""
        context, memory = _context(), (_Memory * 3)()
        if self._memory(ctypes.addressof(context), (ctypes.c_int64 * max(len(sizes), 1))(*sizes), memory) != 0:
            raise ValueError(context.message.decode(errors="replace"))
        return sum(m.bytes for m in memory)


def _context():
    """The context of this thread."""
    context = getattr(_local, "context", None)
    if context is None:
        context = _local.context = _Context(version=VERSION)
    return context


class _Described:
    """What the library is told of tensors of given shapes and types, in one thread; only their addresses change from call to call."""

    def __init__(self, kinds):
        count = max(len(kinds), 1)
        self._tensors, self._pointers, self._dims = (_Tensor * count)(), (ctypes.c_void_p * count)(), []
        for k, (shape, dtype) in enumerate(kinds):
            dims = (ctypes.c_int64 * max(len(shape), 1))(*shape)
            code, bits = CODES[dtype]
            self._tensors[k] = _Tensor(None, 1, 0, len(shape), _DataType(code, bits, 1), dims, None, 0)
            self._pointers[k] = ctypes.addressof(self._tensors) + k * ctypes.sizeof(_Tensor)
            self._dims.append(dims)
        self.views = [self._tensors[k] for k in range(len(kinds))]
        self.pointers, self.context = ctypes.addressof(self._pointers), _context()
        self.context_at = ctypes.addressof(self.context)


def _describe(kinds):
    """The description of this thread."""
    known = getattr(_local, "described", None)
    if known is None:
        known = _local.described = {}
    found = known.get(kinds)
    return _keep(known, kinds, _Described(kinds)) if found is None else found


def _keep(known, key, value, most=64):
    """Remembers a value, and forgets the others where there are too many."""
    if len(known) >= most:
        known.clear()
    known[key] = value
    return value


def load(name):
    """The model of `lib<name>.so` beside this file."""
    library = ctypes.CDLL(os.path.join(os.path.dirname(os.path.abspath(__file__)), f"lib{name}.so"))
    query = getattr(library, f"gdl_{name}_query")
    query.restype = ctypes.POINTER(_Model)
    table = query().contents
    if table.version != VERSION:
        raise ImportError(f"lib{name}.so has version {table.version}, this package needs {VERSION}: build both again")
    return Model(table, library)


def keyword(argument):
    """The name under which a table of a domain is given: `senders` for `Graph.senders`."""
    return argument.name.rsplit(".", 1)[-1]


def arrange(model, arguments, tables, kind):
    """The inputs in order: arguments by place or by name, tables of domains by the last word of their names or in full.

    `kind` says whether something is a tensor, so that sizes may be given by name too. Returns inputs (None where missing) and sizes.
    """
    if not tables and len(arguments) == len(model.inputs):
        return list(arguments), {}
    own = [a for a in model.inputs if "." not in a.name]
    if len(arguments) > len(own):
        raise TypeError(f"{len(own)} arguments are taken ({', '.join(a.name for a in own)}), {len(arguments)} were given")
    found = {a.name: x for a, x in zip(own, arguments)}
    names = {a.name: a.name for a in model.inputs}
    for a in model.inputs:
        if "." in a.name and sum(keyword(b) == keyword(a) for b in model.inputs) == 1:
            names.setdefault(keyword(a), a.name)
    sizes = {}
    for key, value in tables.items():
        if key in names and kind(value):
            if names[key] in found:
                raise TypeError(f"`{key}` is given twice")
            found[names[key]] = value
        elif key in model.sizes:
            if not hasattr(value, "__index__"):
                raise TypeError(f"the size `{key}` is {value!r}, and needs to be a whole number")
            sizes[key] = value
        else:
            raise TypeError(f"`{key}` is neither an input ({', '.join(names)}) nor a size ({', '.join(model.sizes)})")
    for a in model.inputs:
        if a.name not in found and keyword(a) != "index":
            raise TypeError(f"the input `{a.name}` is missing")
    return [found.get(a.name) for a in model.inputs], sizes


def completed(model, inputs, sizes, zeros, greatest):
    """The inputs with what may be left out: all points belong to one sample, and there are as many samples as the index says, one without an index.

    `zeros` makes an index of a length, `greatest` reads its greatest entry: the last one, where it is as it has to be.
    """
    missing = [k for k, x in enumerate(inputs) if x is None]
    if "samples" in model.asked and "samples" not in sizes:
        index = [x for a, x in zip(model.inputs, inputs) if keyword(a) == "index" and x is not None]
        sizes = dict(sizes, samples=greatest(index[0]) + 1 if index and len(index[0]) else 0 if index else 1)
    if missing:
        lengths = {}
        for a, x in zip(model.inputs, inputs):
            if x is not None:
                for (var, scale, offset, divisor), n in zip(a.dims, x.shape):
                    if (scale, offset, divisor) == (1, 0, 1):
                        lengths[var] = n
        inputs = list(inputs)
        for k in missing:
            inputs[k] = zeros(lengths[model.inputs[k].dims[0][0]])
    return inputs, sizes
