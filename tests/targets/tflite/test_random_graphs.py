"""The layout analysis on random graphs: the results stay right, and TRANSPOSE is rarer than without the analysis."""

from __future__ import annotations

import math

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st

from tests.targets.tflite.random_models import ModelBuilder, assert_holds, examples

LIMIT = 2048  # elements of a value


class _Graph:
    """A graph that grows by random operators on random earlier values."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.b = ModelBuilder(draw(st.integers(0, 99)))
        self.values: list[tuple[str, list[int]]] = []
        self.naive = 0

    def pick(self, rank: int | None = None) -> tuple[str, list[int]] | None:
        """A value, rather a recent one."""
        found = [value for value in self.values if rank is None or len(value[1]) == rank]
        if not found:
            return None
        return found[-1 - self.draw(st.sampled_from([0, 0, 0, 1, 2, 3])) % len(found)]

    def keep(self, name: str, dims: list[int]) -> None:
        """Remember a result."""
        self.values.append((name, dims))

    def step(self) -> None:
        """Append one operator, if one fits."""
        op = self.draw(st.sampled_from(sorted(STEPS)))
        rank = STEPS[op]
        picked = self.pick(rank)
        if picked is not None:
            getattr(self, f"_{op}")(*picked)

    def _conv(self, x: str, dims: list[int]) -> None:
        if not 3 <= len(dims) <= 5:
            return
        b, depth, spatial = self.b, self.draw(st.sampled_from([2, 3, 4])), len(dims) - 2
        group = dims[1] if self.draw(st.booleans()) else 1
        out = depth if group == 1 else dims[1]
        w = b.weights(out, dims[1] // group, *[3] * spatial)
        y = b.add("Conv", x, w, b.weights(out), pads=[1] * 2 * spatial, group=group)
        self.naive += 2
        self.keep(y, [dims[0], out, *dims[2:]])

    def _activation(self, x: str, dims: list[int]) -> None:
        op = self.draw(st.sampled_from(["Relu", "Sigmoid", "LeakyRelu", "Tanh", "HardSwish", "Clip", "Clip", "PRelu"]))
        operands = [x]
        if op == "Clip":
            bounds = self.draw(st.sampled_from([(0, 6), (-1, 1), (0, 1), (-0.5, 2)]))
            operands += [self.b.constant(bound, np.float32) for bound in bounds]
        if op == "PRelu":
            operands.append(self.b.weights(*dims[1:2], *[1] * (len(dims) - 2)))
        self.keep(self.b.add(op, *operands), dims)

    def _binary(self, x: str, dims: list[int]) -> None:
        b = self.b
        matching = [name for name, other in self.values if _broadcasts(other, dims)]
        if self.draw(st.booleans()) and matching:
            other = self.draw(st.sampled_from(matching))
        else:
            shape = [1 if self.draw(st.booleans()) else dim for dim in dims]
            other = b.weights(*shape[self.draw(st.integers(0, len(dims))) :])
        operands = [x, other] if self.draw(st.booleans()) else [other, x]
        self.keep(b.add(self.draw(st.sampled_from(["Add", "Mul", "Sub"])), *operands), dims)

    def _concat(self, x: str, dims: list[int]) -> None:
        axis = self.draw(st.integers(0, len(dims) - 1))
        fitting = [
            (name, other)
            for name, other in self.values
            if len(other) == len(dims) and all(a == b for i, (a, b) in enumerate(zip(dims, other)) if i != axis)
        ]
        name, other = self.draw(st.sampled_from(fitting))
        if math.prod(dims) + math.prod(other) > LIMIT:
            return
        result = [*dims[:axis], dims[axis] + other[axis], *dims[axis + 1 :]]
        self.keep(self.b.add("Concat", x, name, axis=axis), result)

    def _split(self, x: str, dims: list[int]) -> None:
        axis = self.draw(st.integers(0, len(dims) - 1))
        if dims[axis] < 2:
            return
        first = self.draw(st.integers(1, dims[axis] - 1))
        sizes = [first, dims[axis] - first]
        y = self.b.add("Split", x, self.b.constant(sizes, np.int64), outputs=2, axis=axis)
        for name, size in zip((y, f"{y}_1"), sizes):
            self.keep(name, [*dims[:axis], size, *dims[axis + 1 :]])

    def _slice(self, x: str, dims: list[int]) -> None:
        axis = self.draw(st.integers(0, len(dims) - 1))
        step = self.draw(st.sampled_from([1, 2]))
        start = self.draw(st.integers(0, dims[axis] - 1))
        operands = [self.b.constant([v], np.int64) for v in (start, dims[axis], axis, step)]
        size = len(range(start, dims[axis], step))
        self.keep(self.b.add("Slice", x, *operands), [*dims[:axis], size, *dims[axis + 1 :]])

    def _transpose(self, x: str, dims: list[int]) -> None:
        order = list(self.draw(st.permutations(range(len(dims)))))
        self.naive += 1
        self.keep(self.b.add("Transpose", x, perm=order), [dims[axis] for axis in order])

    def _reshape(self, x: str, dims: list[int]) -> None:
        result: list[int] = []
        for dim in dims:
            choice = self.draw(st.sampled_from(["keep", "keep", "merge", "split", "one"]))
            if choice == "merge" and result:
                result[-1] *= dim
            elif choice == "split" and dim % 2 == 0:
                result += [2, dim // 2]
            elif choice == "one" and len(result) < 4:
                result += [1, dim]
            else:
                result.append(dim)
        if 1 <= len(result) <= 6:
            self.keep(self.b.add("Reshape", x, self.b.constant(result, np.int64)), result)

    def _reduce(self, x: str, dims: list[int]) -> None:
        axes = self.draw(st.lists(st.integers(0, len(dims) - 1), min_size=1, max_size=2, unique=True))
        keep = self.draw(st.integers(0, 1))
        result = [1 if axis in axes else dim for axis, dim in enumerate(dims) if keep or axis not in axes]
        op = self.draw(st.sampled_from(["ReduceMean", "ReduceMax", "ReduceL2"]))
        self.keep(self.b.add(op, x, self.b.constant(axes, np.int64), keepdims=keep), result)

    def _softmax(self, x: str, dims: list[int]) -> None:
        self.naive += 2
        op = self.draw(st.sampled_from(["Softmax", "LogSoftmax"]))
        self.keep(self.b.add(op, x, axis=self.draw(st.integers(-len(dims), len(dims) - 1))), dims)

    def _matmul(self, x: str, dims: list[int]) -> None:
        if len(dims) < 2:
            return
        b = self.b
        if len(dims) == 2 and self.draw(st.booleans()):
            weights, bias = b.weights(3, dims[1]), b.weights(3)
            self.keep(b.add("Gemm", x, weights, bias, transB=1), [dims[0], 3])
            return
        other = b.weights(dims[-1], self.draw(st.integers(1, 4)))
        partners = [name for name, shape in self.values if shape == dims]
        if self.draw(st.booleans()):
            self.keep(b.add("MatMul", x, other), [*dims[:-1], 0])
            self.values[-1] = (self.values[-1][0], [*dims[:-1], int(b.constants[-1].dims[1])])
            return
        order = [*range(len(dims) - 2), len(dims) - 1, len(dims) - 2]
        turned = b.add("Transpose", self.draw(st.sampled_from(partners)), perm=order)
        self.naive += 2
        self.keep(b.add("MatMul", x, turned), [*dims[:-1], dims[-2]])

    def _pad(self, x: str, dims: list[int]) -> None:
        pads = [self.draw(st.sampled_from([0, 0, 1])) for _ in range(2 * len(dims))]
        result = [dim + pads[axis] + pads[axis + len(dims)] for axis, dim in enumerate(dims)]
        if math.prod(result) <= LIMIT:
            self.keep(self.b.add("Pad", x, self.b.constant(pads, np.int64)), result)

    def _resize(self, x: str, dims: list[int]) -> None:
        if math.prod(dims) * 4 <= LIMIT:
            scales = self.b.constant([1, 1, 2, 2], np.float32)
            mode = self.draw(st.sampled_from(["nearest", "linear"]))
            y = self.b.add("Resize", x, "", scales, mode=mode, coordinate_transformation_mode="asymmetric")
            self.naive += 2
            self.keep(y, [*dims[:2], dims[2] * 2, dims[3] * 2])

    def _pool(self, x: str, dims: list[int]) -> None:
        y = self.b.add(self.draw(st.sampled_from(["GlobalAveragePool", "GlobalMaxPool"])), x)
        self.naive += 2
        self.keep(y, [*dims[:2], 1, 1])

    def _window(self, x: str, dims: list[int]) -> None:
        op = self.draw(st.sampled_from(["MaxPool", "AveragePool"]))
        y = self.b.add(op, x, kernel_shape=[2, 2], pads=[0, 0, 1, 1])
        self.naive += 2
        self.keep(y, dims)

    def _normalize(self, x: str, dims: list[int]) -> None:
        b, depth = self.b, dims[1]
        self.naive += 2
        if self.draw(st.booleans()):
            self.keep(b.add("InstanceNormalization", x, b.weights(depth), b.weights(depth)), dims)
            return
        variance = b.constant(b.random.random(depth) + 0.5, np.float32)
        self.keep(b.add("BatchNormalization", x, b.weights(depth), b.weights(depth), b.weights(depth), variance), dims)

    def _gather(self, x: str, dims: list[int]) -> None:
        axis = self.draw(st.integers(0, len(dims) - 1))
        if self.draw(st.booleans()):
            y = self.b.add("Gather", x, self.b.constant(dims[axis] - 1, np.int64), axis=axis)
            self.keep(y, [*dims[:axis], *dims[axis + 1 :]])
            return
        order = self.b.random.permutation(dims[axis])
        self.keep(self.b.add("Gather", x, self.b.constant(order, np.int64), axis=axis), dims)

    def _depth(self, x: str, dims: list[int]) -> None:
        if dims[1] % 4 == 0:
            mode = self.draw(st.sampled_from(["DCR", "CRD"]))
            y = self.b.add("DepthToSpace", x, blocksize=2, mode=mode)
            self.keep(y, [dims[0], dims[1] // 4, dims[2] * 2, dims[3] * 2])
        elif dims[2] % 2 == 0 and dims[3] % 2 == 0:
            self.keep(self.b.add("SpaceToDepth", x, blocksize=2), [dims[0], dims[1] * 4, dims[2] // 2, dims[3] // 2])
        else:
            return
        self.naive += 2

    def _expand(self, x: str, dims: list[int]) -> None:
        shape = [2 if dim == 1 and self.draw(st.booleans()) else dim for dim in dims]
        if len(shape) < 5 and self.draw(st.booleans()):
            shape.insert(0, 2)
        if math.prod(shape) <= LIMIT:
            self.keep(self.b.add("Expand", x, self.b.constant(shape, np.int64)), shape)

    def _tile(self, x: str, dims: list[int]) -> None:
        repeats = [self.draw(st.sampled_from([1, 1, 2])) for _ in dims]
        result = [dim * count for dim, count in zip(dims, repeats)]
        if math.prod(result) <= LIMIT:
            self.keep(self.b.add("Tile", x, self.b.constant(repeats, np.int64)), result)

    def _unsqueeze(self, x: str, dims: list[int]) -> None:
        ones = [axis for axis, dim in enumerate(dims) if dim == 1]
        if ones and len(dims) > 1 and self.draw(st.booleans()):
            axis = self.draw(st.sampled_from(ones))
            self.keep(self.b.add("Squeeze", x, self.b.constant([axis], np.int64)), [*dims[:axis], *dims[axis + 1 :]])
        elif len(dims) < 5:
            axis = self.draw(st.integers(0, len(dims)))
            self.keep(self.b.add("Unsqueeze", x, self.b.constant([axis], np.int64)), [*dims[:axis], 1, *dims[axis:]])

    def _flatten(self, x: str, dims: list[int]) -> None:
        axis = self.draw(st.integers(1, len(dims)))
        self.keep(self.b.add("Flatten", x, axis=axis), [math.prod(dims[:axis]), math.prod(dims[axis:])])

    def _extremum(self, x: str, dims: list[int]) -> None:
        axis, keep = self.draw(st.integers(0, len(dims) - 1)), self.draw(st.integers(0, 1))
        result = [1 if number == axis else dim for number, dim in enumerate(dims) if keep or number != axis]
        y = self.b.add("ArgMax", x, axis=axis, keepdims=keep)
        self.keep(self.b.add("Cast", y, to=onnx.TensorProto.FLOAT), result)

    def _where(self, x: str, dims: list[int]) -> None:
        condition = self.b.add("Greater", x, self.b.weights(*dims[self.draw(st.integers(0, len(dims) - 1)) :]))
        self.keep(self.b.add("Where", condition, x, self.b.weights(1)), dims)

    def _turned(self, x: str, dims: list[int]) -> None:
        b, group = self.b, dims[1] if self.draw(st.booleans()) else 1
        if math.prod(dims) * 4 <= LIMIT:
            y = b.add(
                "ConvTranspose", x, b.weights(dims[1], 3 // (1 if group == 1 else 3), 2, 2), strides=[2, 2], group=group
            )
            self.naive += 2
            self.keep(y, [dims[0], 3 if group == 1 else dims[1], dims[2] * 2, dims[3] * 2])

    def _layernorm(self, x: str, dims: list[int]) -> None:
        self.naive += 2
        scale, bias = self.b.weights(dims[-1]), self.b.weights(dims[-1])
        self.keep(self.b.add("LayerNormalization", x, scale, bias, axis=-1), dims)


STEPS: dict[str, int | None] = {
    **dict.fromkeys(["depth", "turned", "resize", "pool", "window", "normalize"], 4),
    **dict.fromkeys(["activation", "binary", "concat", "split", "slice", "transpose", "reshape", "reduce"]),
    **dict.fromkeys(["softmax", "matmul", "pad", "gather", "layernorm"]),
    **dict.fromkeys(["conv", "expand", "tile", "unsqueeze", "flatten", "extremum", "where"]),
}


def _broadcasts(shape: list[int], dims: list[int]) -> bool:
    return len(shape) <= len(dims) and all(a in (1, b) for a, b in zip(shape[::-1], dims[::-1]))


@st.composite
def graphs(draw: st.DrawFn) -> tuple[onnx.ModelProto, int]:
    """A random graph of 3 to 12 operators, and how many TRANSPOSEs a lowering node by node would need at most."""
    g = _Graph(draw)
    for _ in range(draw(st.integers(1, 2))):
        dims = [1, draw(st.sampled_from([2, 3, 4])), draw(st.sampled_from([3, 4])), draw(st.sampled_from([4, 5]))]
        g.keep(g.b.input(dims), dims)
    if draw(st.booleans()):
        dims = [draw(st.integers(2, 4)) for _ in range(draw(st.integers(1, 3)))]
        g.values.insert(0, (g.b.input(dims), dims))
    g._conv(*g.values[-1])
    for _ in range(draw(st.integers(2, 11))):
        g.step()
        g.values = [value for value in g.values if value[1]] or g.values
    names = [name for name, dims in g.values]
    inner = draw(st.lists(st.sampled_from(names), max_size=3, unique=True))
    if draw(st.sampled_from([False, False, True])):
        inner.append(g.b.weights(2, 3))
    outputs = list(dict.fromkeys([names[-1], *inner]))
    if draw(st.sampled_from([False, False, True])):
        outputs.append(g.b.add("Identity", names[-1]))
    return g.b.build(*outputs), g.naive + 2 * len(outputs)


@examples(80)
@given(graphs(), st.sampled_from(["ONNX", "NHWC"]))
def test_graphs(case: tuple[onnx.ModelProto, int], io_layout: str) -> None:
    model, naive = case
    found = assert_holds(model, io_layout=io_layout, refusal=False, tolerance=1e-3)
    assert found.operators.get("TRANSPOSE", 0) <= naive
