"""Weights of layers of other libraries, under the names and in the shapes of a layer that is the same map: dicts of arrays, to be joined into
those of a model. `layer` is the name that the model's weights have before `.weight` and `.bias`, such as `linear1`.
"""
import numpy


def _array(tensor):
    return numpy.asarray(tensor.detach().cpu() if hasattr(tensor, "detach") else tensor)


def _with_bias(layer, weights, bias):
    return weights if bias is None else {**weights, f"{layer}.bias": _array(bias)}


def from_torch(layer, module):
    """`torch.nn.Linear` as `linear c`; `torch.nn.Conv1d`, `Conv2d`, `Conv3d` as `linear c over KxK` under `shift`, where windows see zeros outside
    (`padding="same"`, zeros). The channels of a grid come last here and first in torch."""
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
    return _with_bias(layer, {f"{layer}.weight": weight}, module.bias)


def from_e3nn(layer, module):
    """`e3nn.o3.Linear` (0.5 and later) as `linear`. Blocks of one kind are joined in their order, so the
    irreps must come in the same order of kinds. The factors by which e3nn keeps the variance, `path_weight`, are multiplied in."""
    _refuse(any(getattr(module, f, None) is not None for f in ("f_in", "f_out")), module, "channels besides the irreps")
    places = [_places(irreps) for irreps in (module.irreps_in, module.irreps_out)]
    blocks = {}
    flat, at = _array(module.weight), 0
    for ins in module.instructions:
        if ins.i_in == -1:
            continue
        n, m = ins.path_shape
        block = ins.path_weight * flat[at:at + n * m].reshape(n, m).T
        at += n * m
        kind, first_in = places[0][ins.i_in]
        _, first_out = places[1][ins.i_out]
        copies = [sum(mul for mul, ir in irreps if str(ir) == kind) for irreps in (module.irreps_out, module.irreps_in)]
        blocks.setdefault(kind, numpy.zeros(copies, flat.dtype))[first_out:first_out + m, first_in:first_in + n] += block
    names = {kind: f"{layer}.weight.{kind}" for kind in blocks} if len(blocks) > 1 else {kind: f"{layer}.weight" for kind in blocks}
    bias = module.bias if module.bias.numel() else None
    return _with_bias(layer, {names[kind]: block for kind, block in blocks.items()}, bias)


def _places(irreps):
    """The kind of each block, and how many copies of it come before."""
    seen, places = {}, []
    for mul, ir in irreps:
        kind = str(ir)
        places.append((kind, seen.get(kind, 0)))
        seen[kind] = seen.get(kind, 0) + mul
    return places


def from_pyg(layer, module):
    """`torch_geometric.nn.GCNConv(bias=False, add_self_loops=False)` as the library's `gcn`, whose map of the nodes is `layer`."""
    _refuse(module.add_self_loops, module, "self-loops, which are written as edges here: add_self_loops=False")
    _refuse(module.bias is not None, module, "a bias after the sum: bias=False")
    _refuse(not module.normalize, module, "no division by the degrees: normalize=True")
    return {f"{layer}.weight": _array(module.lin.weight)}


def _refuse(wrong, module, what):
    if wrong:
        raise ValueError(f"{type(module).__name__} has {what}, and no layer here is that map")
