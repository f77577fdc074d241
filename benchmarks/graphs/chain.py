"""A long chain for measuring how passes scale: residual convolutions between detours of shape arithmetic."""

from __future__ import annotations

from benchmarks.graphs.builder import GraphBuilder

NODES_PER_BLOCK = 20
CHANNELS, SIDE = 32, 8


def chain(nodes: int, seed: int = 0) -> GraphBuilder:
    """A graph of `nodes` nodes (a multiple of 20); 42 MB at 10,000; input and output float32 [1, 32, 8, 8].

    Each block is two Conv + BatchNormalization pairs with a residual Add, then a Reshape whose shape is computed with
    Shape, Gather, Unsqueeze and Concat, a pair of Transposes around an Add, and a Reshape back.
    """
    if nodes <= 0 or nodes % NODES_PER_BLOCK:
        raise ValueError(f"nodes must be a positive multiple of {NODES_PER_BLOCK}, not {nodes}")
    blocks = nodes // NODES_PER_BLOCK
    graph = GraphBuilder(f"chain_{nodes}", seed)
    shape = (1, CHANNELS, SIDE, SIDE)
    value = graph.input("input", shape)
    for index in range(blocks):
        value = _block(graph, value, f"block.{index}", 1.0 / blocks)
    graph.output(value, shape, "output")
    return graph


def _block(graph: GraphBuilder, value: str, name: str, gain: float) -> str:
    """One block; a `gain` of 1 / blocks keeps the values bounded over any depth."""
    hidden = graph.convolution(value, f"{name}.conv1", CHANNELS, CHANNELS, 3, bias=False, gain=2.0)
    hidden = graph.node("Relu", [graph.batch_normalization(hidden, f"{name}.bn1", CHANNELS)])
    hidden = graph.convolution(hidden, f"{name}.conv2", CHANNELS, CHANNELS, 3, bias=False, gain=gain)
    hidden = graph.batch_normalization(hidden, f"{name}.bn2", CHANNELS, shift=0.1 * gain)
    value = graph.node("Relu", [graph.node("Add", [value, hidden])])
    batch = graph.node("Gather", [graph.node("Shape", [value]), graph.integers(0)], axis=0)
    batch = graph.node("Unsqueeze", [batch, graph.integers([0])])
    target = graph.node("Concat", [batch, graph.integers([CHANNELS, SIDE * SIDE])], axis=0)
    value = graph.node("Transpose", [graph.node("Reshape", [value, target])], perm=[0, 2, 1])
    value = graph.node("Add", [value, graph.parameter(f"{name}.shift", graph.normal((CHANNELS,), 0.1 * gain))])
    value = graph.node("Transpose", [value], perm=[0, 2, 1])
    return graph.node("Reshape", [value, graph.integers([1, CHANNELS, SIDE, SIDE])])
