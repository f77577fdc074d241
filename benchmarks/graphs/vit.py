"""A vision transformer as PyTorch exports timm's at opset 14: LayerNorm and Gelu as chains of primitive operators."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.graphs.builder import GraphBuilder

IMAGE, PATCH, WIDTH, HEADS, LAYERS = 224, 16, 192, 3, 6
TOKENS = (IMAGE // PATCH) ** 2 + 1


def vit_tiny(seed: int = 0) -> GraphBuilder:
    """Six layers of width 192 with 3 heads; input float32 [1, 3, 224, 224], output [1, 1000]; 12 MB."""
    graph = GraphBuilder("vit_tiny6", seed, opset=14)
    value = graph.convolution(
        graph.input("input", (1, 3, IMAGE, IMAGE)), "patch_embed", 3, WIDTH, PATCH, stride=PATCH, padding=0, gain=1.0
    )
    value = graph.node("Reshape", [value, graph.integers([1, WIDTH, TOKENS - 1])])
    value = graph.node("Transpose", [value], perm=[0, 2, 1])
    class_token = graph.parameter("cls_token", graph.normal((1, 1, WIDTH), 0.5))
    value = graph.node("Concat", [class_token, value], axis=1)
    value = graph.node("Add", [value, graph.parameter("pos_embed", graph.normal((1, TOKENS, WIDTH), 0.5))])
    for layer in range(LAYERS):
        name = f"blocks.{layer}"
        attended = _attention(graph, _layer_norm(graph, value, f"{name}.norm1"), f"{name}.attn")
        value = graph.node("Add", [value, attended])
        hidden = graph.linear(_layer_norm(graph, value, f"{name}.norm2"), f"{name}.mlp.fc1", WIDTH, 4 * WIDTH)
        value = graph.node("Add", [value, graph.linear(_gelu(graph, hidden), f"{name}.mlp.fc2", 4 * WIDTH, WIDTH)])
    value = _layer_norm(graph, value, "norm")
    value = graph.node("Gather", [value, graph.integers(0)], axis=1)
    graph.output(graph.gemm(value, "head", WIDTH, 1000), (1, 1000), "output")
    return graph


def _layer_norm(graph: GraphBuilder, value: str, name: str) -> str:
    centred = graph.node("Sub", [value, graph.node("ReduceMean", [value], axes=[-1], keepdims=1)])
    squared = graph.node("Pow", [centred, graph.scalar(2.0)])
    variance = graph.node("Add", [graph.node("ReduceMean", [squared], axes=[-1], keepdims=1), graph.scalar(1e-6)])
    normal = graph.node("Div", [centred, graph.node("Sqrt", [variance])])
    scale = graph.parameter(f"{name}.weight", np.float32(1.0) + graph.normal((WIDTH,), 0.1))
    shift = graph.parameter(f"{name}.bias", graph.normal((WIDTH,), 0.1))
    return graph.node("Add", [graph.node("Mul", [normal, scale]), shift])


def _gelu(graph: GraphBuilder, value: str) -> str:
    error = graph.node("Erf", [graph.node("Div", [value, graph.scalar(math.sqrt(2.0))])])
    product = graph.node("Mul", [value, graph.node("Add", [error, graph.scalar(1.0)])])
    return graph.node("Mul", [product, graph.scalar(0.5)])


def _attention(graph: GraphBuilder, value: str, name: str) -> str:
    head = WIDTH // HEADS
    joined = graph.linear(value, f"{name}.qkv", WIDTH, 3 * WIDTH)
    joined = graph.node("Reshape", [joined, graph.integers([1, TOKENS, 3, HEADS, head])])
    joined = graph.node("Transpose", [joined], perm=[2, 0, 3, 1, 4])
    query, key, content = (graph.node("Gather", [joined, graph.integers(index)], axis=0) for index in range(3))
    scores = graph.node("MatMul", [query, graph.node("Transpose", [key], perm=[0, 1, 3, 2])])
    scores = graph.node("Mul", [scores, graph.scalar(head**-0.5)])
    mixed = graph.node("MatMul", [graph.node("Softmax", [scores], axis=-1), content])
    mixed = graph.node("Transpose", [mixed], perm=[0, 2, 1, 3])
    mixed = graph.node("Reshape", [mixed, graph.integers([1, TOKENS, WIDTH])])
    return graph.linear(mixed, f"{name}.proj", WIDTH, WIDTH)
