"""The peers: how each is set up, at its best settings."""

import os

THREADS = int(os.environ.get("THREADS", "1"))


def torch_():
    import torch

    torch.set_num_threads(THREADS)
    return torch


def of_torch(function, *tensors, compiled=False):
    """A call of a function on tensors of PyTorch, without derivatives; compiled, its weights are constants."""
    torch = torch_()
    if compiled:
        import torch._inductor.config

        torch._inductor.config.freezing = True
        torch._dynamo.reset()
        function = torch.compile(function, dynamic=False)

    def run():
        with torch.no_grad():
            return function(*tensors)

    return run


def of_jax(function, *arrays):
    """A call of a jitted function on arrays that are there already, until its result is."""
    import jax

    compiled, there = jax.jit(function), [jax.numpy.asarray(a) for a in arrays]
    return lambda: jax.block_until_ready(compiled(*there))


def onnx_session(inputs, nodes, weights, output):
    """An ONNX Runtime session for a small graph."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(
        nodes, "g", [value(k, v.shape) for k, v in inputs.items()], [value(output, None)],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, inputs)[0]
