"""Weights of layers of other libraries, under the names and in the shapes of layers of this model that are the same maps: dicts of arrays, to be
joined into those of the model. `layer` is what the names of a layer's weights begin with, such as `linear1`, or `gat1` of the library's `gat`;
weights of a layer here that the other has not (a bias, say) are zero. What is not the same map is refused.
"""
import numpy

from . import MODEL as _model


def _array(tensor):
    return numpy.asarray(tensor.detach().cpu() if hasattr(tensor, "detach") else tensor)


def _refuse(wrong, module, what):
    if wrong:
        raise ValueError(f"{type(module).__name__} has {what}, and no layer here is that map")


def _whole(layer, module, found):
    """All weights of a layer: those found, by what follows its name; the rest zero."""
    shapes = {a.name: a.shape([]) for a in _model.weights}
    whole = {name: numpy.zeros(shape, _model.real) for name, shape in shapes.items() if name.startswith(f"{layer}.")}
    if not whole:
        raise ValueError(f"the model has no layer `{layer}`: its weights are {', '.join(shapes)}")
    for words, value in found.items():
        name = f"{layer}.{words}"
        if name not in whole and not value.any():
            continue
        _refuse(name not in whole, module, f"weights that would be `{name}`; the layer has {', '.join(whole)}")
        shape = whole[name].shape
        # axes of one element may be there or not: the cells of a window of one
        wide = [[n for n in own if n != 1] for own in (shape, value.shape)]
        _refuse(wide[0] != wide[1], module, f"{list(value.shape)} numbers for `{name}`, which is {list(shape)}")
        whole[name] = value.reshape(shape)
    return whole


def _named(layer, module, blocks, bias):
    """All weights of a layer, where blocks are found by the kinds of outputs and inputs: names have these where there are several."""
    names, found = {a.name for a in _model.weights}, {}
    for kinds, block in blocks.items():
        short = [".".join(kinds[:1])] if len(kinds) == 2 and len(set(kinds)) == 1 else []
        words = [f"weight.{word}" for word in [*short, ".".join(kinds)]] + ["weight"]
        found[next((word for word in words if f"{layer}.{word}" in names), words[0])] = block
    return _whole(layer, module, found if bias is None else {**found, "bias": _array(bias)})


def from_torch(layer, module):
    """`torch.nn.Linear` as `linear c`; `torch.nn.Embedding` as `linear c` of classes; `torch.nn.Conv1d`, `Conv2d`, `Conv3d` as `linear c over KxK`
    under `shift`, where windows see zeros outside (`padding="same"`, zeros; the channels of a grid come last here and first in torch);
    `torch.nn.Sequential` of linear layers with `torch.nn.SiLU` between them as `mlp[..]`; `torch.nn.MultiheadAttention` of one head as `attention`
    of the library."""
    kind = type(module).__name__
    if kind == "Sequential":
        return _whole(layer, module, _perceptron(module, ""))
    if kind == "MultiheadAttention":
        return _attention(layer, module)
    if kind == "Embedding":
        return _whole(layer, module, {"weight": _array(module.weight).T})
    weight = _array(module.weight)
    if weight.ndim > 2:
        _refuse(set(module.stride) != {1}, module, "a stride: write `coarsen` after the layer")
        _refuse(set(module.dilation) != {1}, module, "dilation")
        _refuse(module.groups != 1, module, "groups")
        _refuse(module.padding_mode != "zeros", module, f"padding by {module.padding_mode}")
        same = [k // 2 for k in module.kernel_size]
        _refuse(module.padding != "same" and list(module.padding) != same, module, "a padding that changes the size")
        _refuse(any(k % 2 == 0 for k in module.kernel_size), module, "a window of even width")
        weight = weight.reshape(*weight.shape[:2], -1)
    return _named(layer, module, {(): weight}, module.bias)


def _perceptron(module, before):
    """The weights of `mlp[..]`: linear layers and silu in turns."""
    found = {}
    for k, part in enumerate(module):
        wanted = "Linear" if k % 2 == 0 else "SiLU"
        _refuse(type(part).__name__ != wanted, module, f"{type(part).__name__} where `mlp` has {wanted}")
        if k % 2 == 0:
            found[f"{before}{k // 2 + 1}.weight"] = _array(part.weight)
            if part.bias is not None:
                found[f"{before}{k // 2 + 1}.bias"] = _array(part.bias)
    _refuse(len(module) % 2 == 0, module, "a nonlinearity at its end")
    return found


def _attention(layer, module):
    _refuse(module.num_heads != 1, module, f"{module.num_heads} heads")
    _refuse(module.in_proj_weight is None, module, "keys or values of another width")
    _refuse(module.in_proj_bias is not None and bool((module.in_proj_bias != 0).any()), module, "biases of queries, keys and values")
    _refuse(module.bias_k is not None or module.add_zero_attn, module, "another element besides those of the set")
    parts = numpy.split(_array(module.in_proj_weight), 3)
    found = {f"{name}.linear.weight": part for name, part in zip("qkv", parts)}
    found["linear1.weight"] = _array(module.out_proj.weight)
    if module.out_proj.bias is not None:
        found["linear1.bias"] = _array(module.out_proj.bias)
    return _whole(layer, module, found)


def from_pyg(layer, module):
    """Convolutions of `torch_geometric.nn` as the library's layers: `GCNConv(bias=False, add_self_loops=False)` as `gcn`, `GATConv` of one head, without
    both too, as `gat`, `SAGEConv` with the mean as `sage`, `GINConv` with `eps=0` and `Sequential(Linear, SiLU, Linear)` as `gin`."""
    kind = type(module).__name__
    _refuse(kind not in ("GCNConv", "GATConv", "SAGEConv", "GINConv"), module, "no layer of the library: it has GCNConv, GATConv, SAGEConv, GINConv")
    if kind in ("GCNConv", "GATConv"):
        _refuse(module.add_self_loops, module, "self-loops, which are written as edges here: add_self_loops=False")
        _refuse(module.bias is not None, module, "a bias after the sum: bias=False")
    if kind == "GCNConv":
        _refuse(not module.normalize, module, "no division by the degrees: normalize=True")
        return _whole(layer, module, {"z.linear.weight": _array(module.lin.weight)})
    if kind == "GATConv":
        _refuse(module.heads != 1, module, f"{module.heads} heads")
        _refuse(module.negative_slope != 0.2, module, f"a slope of {module.negative_slope}, not 0.2")
        _refuse(module.lin is None or module.edge_dim is not None or module.res is not None, module, "edges' features, two kinds of nodes or a residual")
        scores = {"y.s": _array(module.att_dst)[0, 0], "y.t": _array(module.att_src)[0, 0]}
        return _whole(layer, module, {"z.linear.weight": _array(module.lin.weight), **scores})
    if kind == "GINConv":
        _refuse(float(module.eps) != 0, module, "an eps")
        return _whole(layer, module, _perceptron(module.nn, "y.mlp."))
    _refuse(module.aggr != "mean", module, f"{module.aggr} of the neighbours, not the mean")
    _refuse(module.normalize or module.project or not module.root_weight, module, "a normalisation, a projection or no weights of the node itself")
    own, neighbours = _array(module.lin_r.weight), _array(module.lin_l.weight)
    found = {"y.linear.weight": numpy.concatenate([own, neighbours], 1)}
    if module.lin_l.bias is not None:
        found["y.linear.bias"] = _array(module.lin_l.bias)
    return _whole(layer, module, found)


def from_groupy(layer, module):
    """GrouPy's `P4ConvZ2`, `P4ConvP4`, `P4MConvZ2`, `P4MConvP4M` (and those of its ports to PyTorch, which have the same weights
    `[out, in, elements, k, k]`) as `linear c regular over KxK` under p4 and p4m. `groupy_order` says which component of GrouPy each component here is."""
    weight = _array(module.weight if hasattr(module, "weight") else module.W)
    _refuse(weight.ndim != 5, module, f"weights of {weight.ndim} axes, not [out, in, elements, k, k]")
    stride, padding = (getattr(module, name, default) for name, default in (("stride", 1), ("padding", weight.shape[-1] // 2)))
    _refuse({*numpy.atleast_1d(stride).tolist()} != {1}, module, "a stride: write `coarsen` after the layer")
    _refuse({*numpy.atleast_1d(padding).tolist()} != {weight.shape[-1] // 2}, module, "a padding that changes the size")
    bias = getattr(module, "bias", None)
    weight = weight[:, :, groupy_order(weight.shape[2])]
    return _named(layer, module, {(): weight.reshape(*weight.shape[:2], -1)}, bias)


def groupy_order(elements):
    """For each component of a regular fibre under p4 (4 elements) or p4m (8), which of GrouPy's it is: here it is turns, then turns of what is
    mirrored in x; there turns, then what is turned and mirrored in the rows after."""
    return [0, 1, 2, 3, 6, 5, 4, 7][:elements]


def from_escnn(layer, module):
    """escnn's `R2Conv` between trivial and regular fields of `rot2dOnR2(4)`, `flipRot2dOnR2(4)` and their subgroups of quarter turns, as
    `linear c over KxK` and `linear c regular over KxK` under shift, p2, p4, pm, p4m. Its filters are expanded, and the first entry of each orbit is kept.
    The components of regular fields come here as turns, then turns of the mirrored: `escnn_order` says which of escnn's each is."""
    fields = [module.out_type, module.in_type]
    regular = [all(r.name == "regular" for r in of.representations) for of in fields]
    for of, whole in zip(fields, regular):
        names = {r.name for r in of.representations}
        _refuse(not whole and not names <= {"irrep_0", "irrep_0,0"}, module, f"fields of {', '.join(sorted(names))}")
    _refuse(module.stride != 1 or module.dilation != 1 or module.groups != 1, module, "a stride, dilation or groups")
    width = module.kernel_size
    _refuse(module.padding_mode != "zeros" or module.padding != width // 2, module, "a padding that changes the size or is not of zeros")
    order, elements = escnn_order(module.in_type.gspace), _elements(module.in_type.gspace)
    orders = [order if whole else [0] for whole in regular]
    filters, bias = module.expand_parameters()
    counts = [of.size // len(own) for of, own in zip(fields, orders)]
    filters = _array(filters).reshape(counts[0], len(orders[0]), counts[1], len(orders[1]), width * width)
    filters = filters[:, orders[0]][:, :, :, orders[1]]
    firsts = _first_entries(elements, regular, width)
    weight = numpy.stack([filters[:, g, :, h, z] for g, h, z in firsts], -1)
    return _named(layer, module, {(): weight}, None if bias is None else _array(bias).reshape(counts[0], -1)[:, 0])


def _first_entries(elements, regular, width):
    """Of each orbit of (component of the output, of the input, cell) the first entry, in their order: what weights here are numbered by."""
    where = {m.tobytes(): k for k, m in enumerate(elements)}
    half = width // 2
    cells = [(col - half, half - row) for row in range(width) for col in range(width)]
    places = {cell: k for k, cell in enumerate(cells)}
    moved = lambda a, g, whole: where[(a @ elements[g]).tobytes()] if whole else 0
    seen, firsts = set(), []
    for entry in numpy.ndindex(*(len(elements) if whole else 1 for whole in regular), len(cells)):
        if entry not in seen:
            firsts.append(entry)
            for a in elements:
                own = (moved(a, g, whole) for g, whole in zip(entry, regular))
                seen.add((*own, places[tuple((a @ cells[entry[2]]).tolist())]))
    return firsts


def _elements(gspace):
    """The group as matrices on (x, y), in the order of a regular fibre here."""
    turn, mirror = numpy.array([[0, -1], [1, 0]]), numpy.array([[-1, 0], [0, 1]])
    own = _of_plane(gspace)
    mirrored = any((numpy.linalg.det(m)) < 0 for m in own)
    turns = len(own) // (2 if mirrored else 1)
    power = numpy.linalg.matrix_power
    return [power(turn, r * 4 // turns) @ power(mirror, m) for m in range(1 + mirrored) for r in range(turns)]


def escnn_order(gspace):
    """For each component of a regular fibre here, which of escnn's it is: elements are compared as matrices on (x, y)."""
    own = _of_plane(gspace)
    where = [[k for k, m in enumerate(own) if numpy.allclose(m, element)] for element in _elements(gspace)]
    if any(len(k) != 1 for k in where):
        raise ValueError(f"{gspace.name} is no group of quarter turns, with mirrors or without, that a grid has here")
    return [k for (k,) in where]


def _of_plane(gspace):
    return [gspace.basespace_action(element) for element in gspace.fibergroup.elements]


from .weights_e3nn import from_e3nn  # noqa: E402
