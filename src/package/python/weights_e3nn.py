"""Weights of layers of e3nn under the names and in the shapes of layers of a model that are the same maps. e3nn 0.4 and all later versions: the
factors by which e3nn keeps variances are read from the module, and multiplied in; 0.4 has other signs of some couplings."""
import math

import numpy

from .weights import _array, _named, _refuse, _whole

# the Wigner 3j symbols (l1 l2 l3) of e3nn 0.4 that are minus those of later versions, to l = 6: the sum of the degrees is odd in each
_FLIPPED = """
122 133 144 155 166 212 221 313 331 346 364 414 436 441 445 454 456 463 465 515 544 546 551 555 564 566 616 634 643 645 654 656 661 665
"""


def from_e3nn(layer, module, radial=None, neighbours=1.0):
    """`o3.Linear` as `linear`; `o3.TensorProduct` with weights of its own as `bilinear` (its connections are `uvw`) or `depthwise bilinear` (`uuu`).

    With a `nn.FullyConnectedNet` from eight radial functions as `radial`, a `TensorProduct` of features and harmonics (`uvw` or `uvu`), whose weights
    the net makes for each edge and whose messages are summed, as `linear` or `depthwise F over R at r by mlp[..]`. `neighbours` is m/n of the program's
    domain: the layer divides the sum by its root, and e3nn does not.

    Blocks of one kind are joined in their order, so the irreps must come in the same order of kinds.
    """
    if radial is not None:
        return _of_messages(layer, module, radial, neighbours)
    return _of_product(layer, module) if hasattr(module, "irreps_in1") else _of_linear(layer, module)


def _of_linear(layer, module):
    _refuse(any(getattr(module, f, None) is not None for f in ("f_in", "f_out")), module, "channels besides the irreps")
    blocks = _Blocks(module.irreps_out, module.irreps_in)
    flat, at = _array(module.weight), 0
    for ins in module.instructions:
        if ins.i_in == -1:
            continue
        n, m = ins.path_shape
        blocks.add((ins.i_out, ins.i_in), ins.path_weight * flat[at:at + n * m].reshape(n, m).T)
        at += n * m
    return _named(layer, module, blocks.found, module.bias if module.bias.numel() else None)


def _of_product(layer, module):
    _refuse(not module.internal_weights, module, "no weights of its own")
    ins = [module.irreps_out, module.irreps_in1, module.irreps_in2]
    modes = {i.connection_mode for i in module.instructions}
    _refuse(not modes <= {"uvw"} and not modes <= {"uuu"}, module, f"connections {', '.join(sorted(modes))}")
    blocks = _Blocks(*ins) if modes <= {"uvw"} else _Blocks(ins[0])
    flat, at = _array(module.weight), 0
    for i in module.instructions:
        _refuse(not i.has_weight, module, "connections without weights")
        size = math.prod(i.path_shape)
        block = _coupling(module, i) * flat[at:at + size].reshape(i.path_shape)
        at += size
        kinds = tuple(str(irreps[k].ir) for irreps, k in zip(ins, (i.i_out, i.i_in1, i.i_in2)))
        if modes <= {"uvw"}:
            blocks.add((i.i_out, i.i_in1, i.i_in2), block.transpose(2, 0, 1))
        else:
            blocks.add((i.i_out,), block, kinds)
    return _named(layer, module, blocks.found, None)


def _of_messages(layer, module, radial, neighbours):
    """Rows of the last layer of the net: paths by (output, input, degree of the harmonic), each `[out, in]`, or `[c]` of a depthwise layer."""
    modes = {i.connection_mode for i in module.instructions}
    _refuse(not modes <= {"uvw"} and not modes <= {"uvu"}, module, f"connections {', '.join(sorted(modes))}")
    _refuse(any(mul != 1 for mul, _ in module.irreps_in2), module, "several copies of a harmonic")
    _refuse(any(ir.p != (-1) ** ir.l for _, ir in module.irreps_in2), module, "what turns unlike harmonics")
    layers = [getattr(radial, f"layer{k}") for k in range(len(radial.hs) - 1)]
    _refuse(radial.hs[0] != 8, radial, f"{radial.hs[0]} radial functions, not 8")
    _refuse(any(not _is_silu(x.act) for x in layers[:-1]), radial, "another nonlinearity than silu")
    scales = [(x.h_in * x.var_in / (x.var_out if x.act is None else 1)) ** -0.5 for x in layers]
    factors = [1.0, *((1.0 if x.act._is_id else x.act.cst) * x.var_out**0.5 for x in layers[:-1])]
    nets = [scale * factor * _array(x.weight).T for x, scale, factor in zip(layers, scales, factors)]
    outs, ins = module.irreps_out, module.irreps_in1
    blocks, rows, at = _Blocks(outs, ins) if modes <= {"uvw"} else _Blocks(outs), nets.pop(), 0
    for i in module.instructions:
        _refuse(not i.has_weight, module, "connections without weights")
        size = math.prod(i.path_shape)
        block = (_coupling(module, i) * math.sqrt(neighbours) * rows[at:at + size]).reshape(*i.path_shape, -1)[:, 0]
        at += size
        kinds = (str(outs[i.i_out].ir), str(ins[i.i_in1].ir), module.irreps_in2[i.i_in2].ir.l)
        if modes <= {"uvw"}:
            blocks.add((i.i_out, i.i_in1), block.swapaxes(0, 1), kinds)
        else:
            blocks.add((i.i_out,), block, kinds)
    kinds = [list(dict.fromkeys(str(ir) for _, ir in irreps)) for irreps in (outs, ins)]
    paths = []
    for out in kinds[0]:
        for given in kinds[1]:
            parity = (out[-1] == given[-1]) == 1
            degrees = range(abs(int(out[:-1]) - int(given[:-1])), int(out[:-1]) + int(given[:-1]) + 1)
            paths += [(out, given, f) for f in degrees if (f % 2 == 0) == parity]
    width = rows.shape[1]
    rows = [blocks.found.get(path, numpy.zeros((*blocks.copies(path), width))).reshape(-1, width) for path in paths]
    names = {f"radial.{k}.weight": net for k, net in enumerate([*nets, numpy.concatenate(rows)], 1)}
    return _whole(layer, module, names)


def _is_silu(act):
    import torch

    return act is not None and getattr(act, "f", act) in (torch.nn.functional.silu, torch.nn.SiLU)


def _coupling(module, ins):
    """What e3nn multiplies the weights of a path by, where a layer here takes `sqrt(2 l_out + 1)` times the Wigner 3j symbol."""
    from e3nn import __version__

    l1, l2, l3 = module.irreps_in1[ins.i_in1].ir.l, module.irreps_in2[ins.i_in2].ir.l, module.irreps_out[ins.i_out].ir.l
    early = __version__.startswith("0.4.")
    _refuse(early and (l1 + l2 + l3) % 2 == 1 and max(l1, l2, l3) > 6, module, "couplings beyond l = 6 of e3nn 0.4, whose signs are not known here")
    sign = -1 if early and f"{l1}{l2}{l3}" in _FLIPPED.split() else 1
    return sign * ins.path_weight / math.sqrt(2 * l3 + 1)


class _Blocks:
    """Weights by kinds: blocks of an e3nn module, one for each entry of some irreps, joined along the copies of a kind."""

    def __init__(self, *irreps):
        self.irreps, self.found = irreps, {}
        self.kinds = [[str(ir) for _, ir in of] for of in irreps]

    def copies(self, kinds):
        return [sum(mul for mul, ir in of if str(ir) == kind) for of, kind in zip(self.irreps, kinds)]

    def add(self, at, block, kinds=None):
        """Adds the block of the entries `at`, whose kinds name the weight; last axes are what each pair of copies has."""
        own = [of[k] for of, k in zip(self.kinds, at)]
        places = []
        for of, k, kind in zip(self.irreps, at, own):
            before = sum(mul for mul, ir in of[:k] if str(ir) == kind)
            places.append(slice(before, before + of[k].mul))
        whole = (*self.copies(own), *block.shape[len(at):])
        self.found.setdefault(kinds or tuple(own), numpy.zeros(whole, block.dtype))[tuple(places)] += block
