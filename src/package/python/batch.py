"""A batch of calls of a model as one call. No sample sees another, so a batch is more samples: a longer leading axis, where grids have one; a union
of sets, graphs or points else, whose tables count on from one to the next.
"""

# bytes that a call works in; a batch that needs more is cut in parts
MOST = 1 << 28


def _plain(size):
    """The run-time size that this is as it stands, or None."""
    var, scale, offset, divisor = size
    return var if (scale, offset, divisor) == (1, 0, 1) else None


def _leading(argument):
    return _plain(argument.dims[0]) if argument.dims else None


class Batch:
    """The first `n_outputs` outputs of a model for a batch."""

    def __init__(self, model, n_outputs):
        self.model = model
        self.outputs = model.outputs[:n_outputs]
        self.arguments = model.inputs + model.weights
        grows = {_leading(a) for a in model.inputs} | {_plain(a.range) for a in model.inputs if a.table}
        self.grows = grows - {None}
        tensors = [*model.inputs, *self.outputs]
        once = all(not scale or var not in self.grows for a in tensors for var, scale, _, _ in a.dims[1:])
        # how many rows of an element are used is counted: those of a batch do not follow one another as its elements do
        counted = any(a.about.startswith("counted") for a in (*tensors, *model.outputs))
        self.possible = once and not counted and all(_leading(a) in self.grows for a in self.outputs)

    def fits(self, batched):
        """Whether one call does, where of the arguments these are given once an element: not where an element has its own weights."""
        return self.possible and all(_leading(a) in self.grows for a, own in zip(self.arguments, batched) if own)

    def sizes(self, sizes, size):
        """The run-time sizes of `size` elements."""
        return [n * size if var in self.grows else n for var, n in enumerate(sizes)]

    def part(self, sizes, size):
        """How many of `size` elements a call takes: as many as MOST allows, but one."""
        least, most = 1, size
        while least < most:
            middle = (least + most + 1) // 2
            if self.model.bytes(self.sizes(sizes, middle)) <= MOST:
                least = middle
            else:
                most = middle - 1
        return least

    def joined(self, xp, values, batched, sizes, size):
        """The arguments of the call for `size` elements, by the functions of `xp`; what is given once an element has these along its first axis."""
        found = []
        for a, x, own in zip(self.arguments, values, batched):
            if _leading(a) in self.grows:
                if not own:
                    x = xp.broadcast_to(x[None], (size, *x.shape))
                if a.table and _plain(a.range) in self.grows:
                    n = sizes[_plain(a.range)]
                    # a wrong index is not to become another element's
                    number = xp.cumsum(xp.ones_like(x[:, :1]), 0) - 1
                    x = xp.where((x >= 0) & (x < n), x + number * n, -1)
                x = x.reshape((size * x.shape[1], *x.shape[2:]))
            found.append(x)
        return found

    def split(self, outputs, sizes, size):
        """The outputs of each element, along a new first axis."""
        return [y.reshape((size, *a.shape(sizes))) for a, y in zip(self.outputs, outputs)]
