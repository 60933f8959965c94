"""Layers on a graph of 10000 nodes and 160000 edges, 128 channels."""

import warnings

import numpy as np

from library import Library
from workloads.peers import torch_

NODES, EDGES, CHANNELS = 10000, 160000, 128


def graph():
    """An undirected graph: senders and receivers of both directions of each edge, sorted by receiver."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, NODES, EDGES // 2)
    b = (a + rng.integers(1, NODES, EDGES // 2)) % NODES
    senders, receivers = np.concatenate([a, b]), np.concatenate([b, a])
    order = np.lexsort((senders, receivers))
    return senders[order].astype(np.int32), receivers[order].astype(np.int32)


def given(x, senders, receivers):
    return {"x": x, "Nodes.senders": senders, "Nodes.receivers": receivers}


def edges_of(torch, senders, receivers):
    return torch.tensor(np.stack([senders, receivers])).long()


def gcn(folder):
    """Graph convolution, normalised on both sides, without self-loops."""
    rng = np.random.default_rng(1)
    senders, receivers = graph()
    x = rng.standard_normal((NODES, CHANNELS)).astype(np.float32)
    w = (rng.standard_normal((CHANNELS, CHANNELS)) / 11).astype(np.float32)

    def gdlc():
        return Library(folder, "gcn").bound(given(x, senders, receivers), {"gcn1.z.linear.weight": w}, x.shape)

    def sparse():
        torch = torch_()
        warnings.filterwarnings("ignore", message="Sparse")
        degree = np.maximum(np.bincount(receivers, minlength=NODES), 1)
        values = torch.tensor((1 / np.sqrt(degree[senders] * degree[receivers])).astype(np.float32))
        matrix = torch.sparse_coo_tensor(edges_of(torch, receivers, senders), values, (NODES, NODES)).to_sparse_csr()
        rows, weight = torch.tensor(x), torch.tensor(w.T.copy())

        def run():
            with torch.no_grad():
                return (matrix @ (rows @ weight)).numpy()

        return run

    def pyg():
        torch = torch_()
        from torch_geometric.nn import GCNConv

        layer = GCNConv(CHANNELS, CHANNELS, bias=False, add_self_loops=False, cached=True)
        layer.lin.weight.data = torch.tensor(w)
        rows, edges = torch.tensor(x), edges_of(torch, senders, receivers)

        def run():
            with torch.no_grad():
                return layer(rows, edges).numpy()

        return run

    return 2 * NODES * CHANNELS**2 + 2 * EDGES * CHANNELS, {"gdlc": gdlc, "torch sparse": sparse, "PyG": pyg}


def gat(folder):
    """Graph attention, one head."""
    rng = np.random.default_rng(1)
    senders, receivers = graph()
    x = rng.standard_normal((NODES, CHANNELS)).astype(np.float32)
    w = (rng.standard_normal((CHANNELS, CHANNELS)) / 11).astype(np.float32)
    s, t = (rng.standard_normal(CHANNELS).astype(np.float32) / 11 for _ in range(2))

    def gdlc():
        weights = {"gat1.z.linear.weight": w, "gat1.y.s": s, "gat1.y.t": t}
        return Library(folder, "gat").bound(given(x, senders, receivers), weights, x.shape)

    def pyg():
        torch = torch_()
        from torch_geometric.nn import GATConv

        layer = GATConv(CHANNELS, CHANNELS, heads=1, bias=False, add_self_loops=False, negative_slope=0.2)
        layer.lin.weight.data = torch.tensor(w)
        layer.att_dst.data, layer.att_src.data = torch.tensor(s)[None, None], torch.tensor(t)[None, None]
        rows, edges = torch.tensor(x), edges_of(torch, senders, receivers)

        def run():
            with torch.no_grad():
                return layer(rows, edges).numpy()

        return run

    return 2 * NODES * CHANNELS**2, {"gdlc": gdlc, "PyG": pyg}


def mpnn(folder):
    """Messages of two layers from both ends of an edge, the greatest kept. The peers: written plainly, and factored by hand."""
    rng = np.random.default_rng(1)
    senders, receivers = graph()
    x = rng.standard_normal((NODES, CHANNELS)).astype(np.float32)
    w1 = (rng.standard_normal((CHANNELS, 2 * CHANNELS)) / 16).astype(np.float32)
    w2 = (rng.standard_normal((CHANNELS, CHANNELS)) / 11).astype(np.float32)
    b1, b2 = (rng.standard_normal(CHANNELS).astype(np.float32) for _ in range(2))

    def gdlc():
        weights = {f"message1.y.mlp.{k}.{name}": v for k, name, v in [(1, "weight", w1), (1, "bias", b1), (2, "weight", w2), (2, "bias", b2)]}
        return Library(folder, "mpnn").bound(given(x, senders, receivers), weights, x.shape)

    def torch_side(factored):
        torch = torch_()
        rows, first, second, a, b = (torch.tensor(t) for t in (x, w1, w2, b1, b2))
        to, source = (torch.tensor(t).long() for t in (receivers, senders))
        spread = to[:, None].expand(-1, CHANNELS)

        def hidden():
            if factored:
                return (rows @ first[:, :CHANNELS].T + a)[to] + (rows @ first[:, CHANNELS:].T)[source]
            return torch.cat([rows[to], rows[source]], 1) @ first.T + a

        def run():
            with torch.no_grad():
                messages = torch.nn.functional.silu(hidden()) @ second.T + b
                empty = torch.zeros(NODES, CHANNELS)
                return empty.scatter_reduce(0, spread, messages, "amax", include_self=False).numpy()

        return run

    sides = {"gdlc": gdlc, "torch": lambda: torch_side(False), "torch factored": lambda: torch_side(True)}
    return 4 * NODES * CHANNELS**2 + 2 * EDGES * CHANNELS**2, sides
