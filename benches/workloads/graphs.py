"""Layers on a graph of 10000 nodes and 160000 edges, 128 channels."""

import warnings

import numpy as np

from library import Library
from workloads.peers import of_jax, of_torch, torch_

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

    degree = np.maximum(np.bincount(receivers, minlength=NODES), 1)
    norm = (1 / np.sqrt(degree[senders] * degree[receivers])).astype(np.float32)

    def scipy():
        import scipy.sparse

        matrix = scipy.sparse.csr_matrix((norm, (receivers, senders)), (NODES, NODES))
        return lambda: matrix @ (x @ w.T)

    def jax():
        import jax

        add = lambda messages: jax.ops.segment_sum(messages, receivers, NODES, indices_are_sorted=True)
        return of_jax(lambda x, w, norm: add((x @ w.T)[senders] * norm[:, None]), x, w, norm)

    sides = {"gdlc": gdlc, "torch sparse": sparse, "PyG": pyg, "scipy": scipy, "jax": jax}
    return 2 * NODES * CHANNELS**2 + 2 * EDGES * CHANNELS, sides


def gat(folder):
    """Graph attention, one head."""
    return attention(folder, "gat", 1)


def gat_heads(folder):
    """Graph attention, 8 heads of 16 channels."""
    return attention(folder, "gat_heads", 8)


def attention(folder, name, heads):
    rng = np.random.default_rng(1)
    senders, receivers = graph()
    wide = CHANNELS // heads
    x = rng.standard_normal((NODES, CHANNELS)).astype(np.float32)
    w = (rng.standard_normal((CHANNELS, CHANNELS)) / 11).astype(np.float32)
    s, t = (rng.standard_normal((heads, wide)).astype(np.float32) / 11 for _ in range(2))

    def gdlc():
        by_head = w if heads == 1 else w.reshape(heads, wide, CHANNELS).transpose(0, 2, 1)
        weights = {"gat1.z.linear.weight": by_head, "gat1.y.s": s.reshape(-1), "gat1.y.t": t.reshape(-1)}
        return Library(folder, name).bound(given(x, senders, receivers), weights, x.shape)

    def pyg():
        torch = torch_()
        from torch_geometric.nn import GATConv

        layer = GATConv(CHANNELS, wide, heads=heads, bias=False, add_self_loops=False, negative_slope=0.2)
        layer.lin.weight.data = torch.tensor(w)
        layer.att_dst.data, layer.att_src.data = torch.tensor(s)[None], torch.tensor(t)[None]
        run = of_torch(layer, torch.tensor(x), edges_of(torch, senders, receivers))
        return lambda: run().numpy()

    def torch_side(compiled):
        torch = torch_()

        def layer(x, w, s, t, source, to):
            z = (x @ w.T).view(NODES, heads, wide)
            score = torch.nn.functional.leaky_relu((z * s).sum(-1)[to] + (z * t).sum(-1)[source], 0.2)
            top = torch.full((NODES, heads), -1e30).scatter_reduce_(0, to[:, None].expand(-1, heads), score, "amax")
            raised = (score - top[to]).exp()
            total = torch.zeros(NODES, heads).index_add_(0, to, raised)
            return torch.zeros_like(z).index_add_(0, to, z[source] * (raised / total[to])[..., None]).view(NODES, CHANNELS)

        tensors = [*map(torch.tensor, (x, w, s, t)), torch.tensor(senders).long(), torch.tensor(receivers).long()]
        run = of_torch(layer, *tensors, compiled=compiled)
        return lambda: run().numpy()

    def jax():
        import jax

        def layer(x, w, s, t, source, to):
            rows = dict(num_segments=NODES, indices_are_sorted=True)
            z = (x @ w.T).reshape(NODES, heads, wide)
            score = jax.nn.leaky_relu((z * s).sum(-1)[to] + (z * t).sum(-1)[source], 0.2)
            raised = jax.numpy.exp(score - jax.ops.segment_max(score, to, **rows)[to])
            total = jax.ops.segment_sum(raised, to, **rows)
            return jax.ops.segment_sum(z[source] * (raised / total[to])[..., None], to, **rows).reshape(NODES, CHANNELS)

        return of_jax(layer, x, w, s, t, senders, receivers)

    sides = {"gdlc": gdlc, "PyG": pyg, "torch by hand": lambda: torch_side(False)}
    return 2 * NODES * CHANNELS**2, sides | {"torch by hand, compiled": lambda: torch_side(True), "jax": jax}


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

    def torch_side(factored, compiled=False):
        torch = torch_()

        def layer(rows, first, second, a, b, to, source):
            if factored:
                hidden = (rows @ first[:, :CHANNELS].T + a)[to] + (rows @ first[:, CHANNELS:].T)[source]
            else:
                hidden = torch.cat([rows[to], rows[source]], 1) @ first.T + a
            messages = torch.nn.functional.silu(hidden) @ second.T + b
            empty = torch.zeros(NODES, CHANNELS)
            return empty.scatter_reduce(0, to[:, None].expand(-1, CHANNELS), messages, "amax", include_self=False)

        tensors = [*map(torch.tensor, (x, w1, w2, b1, b2)), torch.tensor(receivers).long(), torch.tensor(senders).long()]
        run = of_torch(layer, *tensors, compiled=compiled)
        return lambda: run().numpy()

    def jax():
        import jax

        def layer(x, w1, w2, b1, b2, to, source):
            hidden = (x @ w1[:, :CHANNELS].T + b1)[to] + (x @ w1[:, CHANNELS:].T)[source]
            greatest = jax.ops.segment_max(jax.nn.silu(hidden) @ w2.T + b2, to, NODES, indices_are_sorted=True)
            return jax.numpy.where(jax.numpy.isfinite(greatest), greatest, 0)

        return of_jax(layer, x, w1, w2, b1, b2, receivers, senders)

    sides = {"gdlc": gdlc, "torch": lambda: torch_side(False), "torch factored": lambda: torch_side(True)}
    sides |= {"torch factored, compiled": lambda: torch_side(True, True), "jax factored": jax}
    return 4 * NODES * CHANNELS**2 + 2 * EDGES * CHANNELS**2, sides
