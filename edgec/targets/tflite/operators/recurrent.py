"""LSTM, GRU and RNN, unrolled over a sequence of static length.

The input projection of all steps is one FULLY_CONNECTED; a step then is one FULLY_CONNECTED of the state and a few
elementwise operators on [batch, hidden].  Steps beyond a sequence's length keep the state and write zeros, in either
direction, which is what reversing every sequence by its own length comes to.

LiteRT's fused sequence operators keep their state between runs, which ONNX's operators do not, so they are not used.

Source: ONNX LSTM-22, GRU-22, RNN-22; clipping as in ONNX Runtime (the gates before their activations).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from edgec.ir.graph import Node
from edgec.ir.types import Array, DataType
from edgec.targets.tflite.builder import options
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.operators.activation import clip, softplus_of
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse
from edgec.targets.tflite.table import lowers

STEP_LIMIT = 2000
"""Longer sequences would make programs of tens of thousands of operators."""

_X, _W, _R, _B, _LENGTHS, _H, _C, _P = range(8)
_DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_ALPHA = {
    "affine": None,
    "leakyrelu": 0.01,
    "thresholdedrelu": 1.0,
    "scaledtanh": None,
    "hardsigmoid": 0.2,
    "elu": 1.0,
}
_BETA = {"affine": None, "scaledtanh": None, "hardsigmoid": 0.5}

Activation = Callable[[T], T]


def _activations(call: Call, count: int) -> list[list[Activation]]:
    """The activation functions of every direction, with the alphas and betas that they consume in order."""
    node = call.node
    names = node.attributes.get("activations") or _DEFAULTS[node.op] * count
    alphas = iter(node.attributes.get("activation_alpha") or [])
    betas = iter(node.attributes.get("activation_beta") or [])
    made = [_activation(call, text.decode() if isinstance(text, bytes) else str(text), alphas, betas) for text in names]
    size = len(_DEFAULTS[node.op])
    return [made[direction * size : (direction + 1) * size] for direction in range(count)]


def _activation(call: Call, name: str, alphas: Iterator[float], betas: Iterator[float]) -> Activation:
    b, key = call.b, name.lower()

    def parameter(defaults: dict[str, float | None], given: Iterator[float]) -> float:
        if key not in defaults:
            return 0.0
        value = next(given, defaults[key])
        if value is None:
            refuse(f"the activation {name} without its alpha and beta", rule="EDG406")
        return float(value)

    alpha, beta = parameter(_ALPHA, alphas), parameter(_BETA, betas)

    def apply(x: T) -> T:
        match key:
            case "sigmoid":
                return b.unary("LOGISTIC", x)
            case "tanh":
                return b.unary("TANH", x)
            case "relu":
                return b.unary("RELU", x)
            case "affine":
                return b.add(b.mul(x, b.scalar(alpha, x)), b.scalar(beta, x))
            case "leakyrelu":
                return b.unary("LEAKY_RELU", x, table=options("LeakyReluOptions", alpha=alpha))
            case "thresholdedrelu":
                return b.select(b.compare("GREATER", x, b.scalar(alpha, x)), x, b.scalar(0.0, x))
            case "scaledtanh":
                return b.mul(b.unary("TANH", b.mul(x, b.scalar(beta, x))), b.scalar(alpha, x))
            case "hardsigmoid":
                return clip(call, b.add(b.mul(x, b.scalar(alpha, x)), b.scalar(beta, x)), 0.0, 1.0)
            case "elu":
                return b.add(
                    b.unary("RELU", x), b.mul(b.unary("ELU", b.minimum(x, b.scalar(0.0, x))), b.scalar(alpha, x))
                )
            case "softsign":
                return b.div(x, b.add(b.unary("ABS", x), b.scalar(1.0, x)))
            case "softplus":
                return softplus_of(call, x)
        refuse(f"the activation '{name}'", rule="EDG406")

    return apply


@dataclass
class _Direction:
    """One direction of a recurrent operator: its parameters as LiteRT takes them, and what a step computes.

    Attributes:
        projected: the input projection with its biases, [steps * batch, gates * hidden], step by step.
        recurrent: the recurrence weights [gates * hidden, hidden].
        recurrent_bias: biases that must not be added to the projection: GRU's with linear_before_reset.
        peepholes: [3 * hidden], or None.
    """

    call: Call
    number: int
    batch: int
    hidden: int
    projected: T
    recurrent: T
    recurrent_bias: T | None
    peepholes: T | None
    activations: list[Activation]
    pieces: dict[tuple[int, int, int], T] = field(default_factory=dict)
    """Parts of parameters, cut once for all steps."""

    def clipped(self, x: T) -> T:
        limit = self.call.node.attributes.get("clip")
        return x if limit is None else clip(self.call, x, -float(limit), float(limit))

    def gates_of(self, x: T, first: int, count: int) -> T:
        """Neighbouring gates of [batch, gates * hidden]."""
        return self.call.b.slice(x, (0, first * self.hidden), (self.batch, count * self.hidden))

    def weights_of(self, first: int, count: int) -> T:
        """The recurrence weights of neighbouring gates."""
        return self.piece(self.recurrent, first, count)

    def piece(self, parameter: T, first: int, count: int) -> T:
        """The rows of neighbouring gates of a parameter."""
        key = (id(parameter), first, count)
        if key not in self.pieces:
            self.pieces[key] = _rows(self.call, parameter, first * self.hidden, count * self.hidden)
        return self.pieces[key]

    def from_state(self, h: T | None, weights: T, bias: T | None = None) -> T | None:
        """What the state contributes; None for a state of zeros without a bias."""
        if h is None:
            return None if bias is None else self.call.b.reshape(bias, (1, bias.size))
        return self.call.b.fully_connected(h, weights, bias)

    def plus(self, x: T, other: T | None) -> T:
        return x if other is None else self.call.b.add(x, other)

    def peephole(self, x: T, cell: T | None, gate: int) -> T:
        if self.peepholes is None or cell is None:
            return x
        return self.call.b.add(x, self.call.b.mul(cell, self.piece(self.peepholes, gate, 1)))

    def rnn(self, x: T, h: T | None) -> T:
        """f(x W + h R + b)."""
        return self.activations[0](self.clipped(self.plus(x, self.from_state(h, self.recurrent))))

    def gru(self, x: T, h: T | None) -> T:
        """(1 - z) * g(candidate) + z * h, the candidate's state reset before or after its product."""
        b = self.call.b
        f, g = self.activations
        if self.recurrent_bias is not None:
            bias = self.recurrent_bias
            state = self.from_state(h, self.recurrent, bias)
            assert state is not None
            rows = state.shape[0]
            both = b.add(self.gates_of(x, 0, 2), b.slice(state, (0, 0), (rows, 2 * self.hidden)))
            update, reset = b.split(f(self.clipped(both)), 1, [self.hidden] * 2)
            inner = b.mul(reset, b.slice(state, (0, 2 * self.hidden), (rows, self.hidden)))
        else:
            both = self.plus(self.gates_of(x, 0, 2), self.from_state(h, self.weights_of(0, 2)))
            update, reset = b.split(f(self.clipped(both)), 1, [self.hidden] * 2)
            kept = None if h is None else b.mul(reset, h)
            inner_or_none = self.from_state(kept, self.weights_of(2, 1))
            candidate = g(self.clipped(self.plus(self.gates_of(x, 2, 1), inner_or_none)))
            return self._blend(update, candidate, h)
        return self._blend(update, g(self.clipped(b.add(self.gates_of(x, 2, 1), inner))), h)

    def _blend(self, update: T, candidate: T, h: T | None) -> T:
        b = self.call.b
        fresh = b.sub(candidate, b.mul(update, candidate))
        return fresh if h is None else b.add(fresh, b.mul(update, h))

    def lstm(self, x: T, h: T | None, c: T | None) -> tuple[T, T]:
        """The new hidden and cell state; gates in the order input, output, forget, cell."""
        b = self.call.b
        f, g, last = self.activations
        total = self.plus(x, self.from_state(h, self.recurrent))
        coupled = bool(self.call.node.attr_int("input_forget", 0))
        if self.peepholes is None and not coupled:
            entered, shown, kept = b.split(f(self.clipped(self.gates_of(total, 0, 3))), 1, [self.hidden] * 3)
        else:
            entered = f(self.clipped(self.peephole(self.gates_of(total, 0, 1), c, 0)))
            if coupled:
                kept = b.sub(b.scalar(1.0, entered), entered)
            else:
                kept = f(self.clipped(self.peephole(self.gates_of(total, 2, 1), c, 2)))
        cell = b.mul(entered, g(self.clipped(self.gates_of(total, 3, 1))))
        if c is not None:
            cell = b.add(b.mul(kept, c), cell)
        if self.peepholes is not None or coupled:
            shown = f(self.clipped(self.peephole(self.gates_of(total, 1, 1), cell, 1)))
        return b.mul(shown, last(cell)), cell


def _rows(call: Call, x: T, first: int, count: int) -> T:
    """Leading rows of a matrix or vector, cut beforehand where it is constant."""
    shape = (count, *x.shape[1:])
    if x.const is not None:
        const = x.const
        return call.b.lazy(x.dtype, shape, lambda: np.ascontiguousarray(const.numpy()[first : first + count]), x.name)
    return call.b.slice(x, (first, *(0,) * (x.rank - 1)), shape)


def _of_direction(call: Call, position: int, direction: int) -> T:
    """The part of a parameter [directions, ...] that belongs to one direction."""
    x = call.raw(position)
    if x.const is not None:
        const = x.const
        return call.b.lazy(x.dtype, x.shape[1:], lambda: np.ascontiguousarray(const.numpy()[direction]), x.name)
    cut = call.b.slice(x, (direction, *(0,) * (x.rank - 1)), (1, *x.shape[1:]))
    return call.b.reshape(cut, x.shape[1:])


def _biases(call: Call, direction: int, gates: int, hidden: int, apart: bool) -> tuple[T | None, T | None]:
    """The bias of the input projection, and that of the recurrence where it must stay apart (zero but for GRU's h)."""
    b, size = call.b, gates * hidden
    if not call.has(_B):
        return None, b.constant(np.zeros(size, np.float32)) if apart else None
    bias = _of_direction(call, _B, direction)
    if bias.const is not None:
        held = bias.const.numpy().astype(np.float32)
        own, state = held[:size].copy(), held[size:].copy()
        kept: Array = np.zeros(size, np.float32)
        if apart:
            kept[-hidden:] = state[-hidden:]
        return b.constant(own + state - kept), b.constant(kept) if apart else None
    own_part, state_part = b.slice(bias, (0,), (size,)), b.slice(bias, (size,), (size,))
    if not apart:
        return b.add(own_part, state_part), None
    mask = b.constant(np.repeat(np.array([0, 0, 1], np.float32), hidden))
    kept_part = b.mul(state_part, mask)
    return b.add(own_part, b.sub(state_part, kept_part)), kept_part


def _lengths(call: Call, steps: int) -> Array | T | None:
    """The sequence lengths, unless every sequence has all steps."""
    if not call.has(_LENGTHS):
        return None
    if not call.is_const(_LENGTHS):
        lengths = call.raw(_LENGTHS)
        return call.b.reshape(lengths, (lengths.size, 1))
    held = call.const(_LENGTHS, "the lengths").reshape(-1, 1)
    return None if np.all(held >= steps) else held


def _initial(call: Call, position: int, direction: int, batch_first: bool) -> T | None:
    """An initial state [batch, hidden] of one direction; None where it is left out, which means zero."""
    if not call.has(position):
        return None
    x = call.raw(position)
    if batch_first:
        x = call.b.transpose(x, (1, 0, 2))
    cut = call.b.slice(x, (direction, 0, 0), (1, *x.shape[1:])) if x.const is None or x.shape[0] > 1 else x
    return call.b.reshape(cut, x.shape[1:])


def _check(call: Call) -> None:
    node: Node = call.node
    if call.dtype(_X) is not DataType.FLOAT:
        refuse(f"{node.op} of {call.dtype(_X).name.lower()}", rule="EDG403")
    steps = call.dims(_X)[1 if node.attr_int("layout", 0) else 0]
    if steps > STEP_LIMIT:
        refuse(
            f"a sequence of {steps} steps; edgec unrolls up to {STEP_LIMIT}",
            "run the model on shorter windows and carry the state from one to the next",
            rule="EDG405",
        )


@lowers("LSTM", "GRU", "RNN")
def recurrent(call: Call) -> list[T]:
    """All steps of all directions, and the states after the last of them."""
    _check(call)
    b, node = call.b, call.node
    batch_first = bool(node.attr_int("layout", 0))
    x = call.raw(_X)
    if batch_first:
        x = b.transpose(x, (1, 0, 2))
    steps, batch, features = x.shape
    gates = _GATES[node.op]
    hidden = call.dims(_R)[2]
    kind = node.attr_str("direction", "forward")
    count = 2 if kind == "bidirectional" else 1
    flat = b.reshape(x, (steps * batch, features))
    lengths = _lengths(call, steps)
    activations = _activations(call, count)
    sequences: list[T] = []
    hiddens: list[T] = []
    cells: list[T] = []
    for direction in range(count):
        apart = node.op == "GRU" and bool(node.attr_int("linear_before_reset", 0))
        bias, recurrent_bias = _biases(call, direction, gates, hidden, apart)
        unit = _Direction(
            call,
            direction,
            batch,
            hidden,
            b.fully_connected(flat, _of_direction(call, _W, direction), bias),
            _of_direction(call, _R, direction),
            recurrent_bias,
            _of_direction(call, _P, direction) if call.has(_P) else None,
            activations[direction],
        )
        backward = kind == "reverse" or direction == 1
        h = _initial(call, _H, direction, batch_first)
        c = _initial(call, _C, direction, batch_first) if node.op == "LSTM" else None
        results, h, c = _unroll(unit, range(steps)[::-1] if backward else range(steps), lengths, h, c)
        axis = 1 if batch_first else 0
        stacked = _pack(call, results[::-1] if backward else results, axis)
        sequences.append(b.reshape(stacked, _with_direction(stacked.shape, 2 if batch_first else 1)))
        for state, kept in ((h, hiddens), (c, cells)):
            if state is not None:
                kept.append(b.reshape(state, _with_direction(state.shape, 1 if batch_first else 0)))
    made = [b.concat(sequences, 2 if batch_first else 1)]
    made.append(b.concat(hiddens, 1 if batch_first else 0))
    if cells:
        made.append(b.concat(cells, 1 if batch_first else 0))
    return made[: len(node.outputs)]


def _with_direction(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], 1, *shape[axis:])


def _pack(call: Call, parts: list[T], axis: int) -> T:
    """[batch, hidden] per step as [steps, batch, hidden] or [batch, steps, hidden]."""
    shape = parts[0].shape
    wanted = (*shape[:axis], len(parts), *shape[axis:])
    if len(parts) == 1:
        return call.b.reshape(parts[0], wanted)
    table = options("PackOptions", axis=axis, valuesCount=len(parts))
    return call.b.one("PACK", parts, parts[0].dtype, wanted, table)


def _unroll(
    unit: _Direction, order: range, lengths: Array | T | None, h: T | None, c: T | None
) -> tuple[list[T], T, T | None]:
    """Every step in order; the results in that order and the states after the last step."""
    b, op = unit.call.b, unit.call.node.op
    zeros = b.constant(np.zeros((unit.batch, unit.hidden), np.float32))
    results: list[T] = []
    for step in order:
        mask: T | None = None
        if isinstance(lengths, T):
            mask = b.compare("GREATER", lengths, b.scalar(step, lengths))
        elif lengths is not None:
            valid = lengths > step
            if not valid.any():
                results.append(zeros)
                continue
            mask = None if valid.all() else b.constant(valid)
        x = b.slice(unit.projected, (step * unit.batch, 0), (unit.batch, unit.projected.shape[1]))
        fresh_cell: T | None = None
        if op == "LSTM":
            fresh, fresh_cell = unit.lstm(x, h, c)
        else:
            fresh = unit.gru(x, h) if op == "GRU" else unit.rnn(x, h)
        results.append(fresh if mask is None else b.select(mask, fresh, zeros))
        h = fresh if mask is None else b.select(mask, fresh, zeros if h is None else h)
        if fresh_cell is not None:
            c = fresh_cell if mask is None else b.select(mask, fresh_cell, zeros if c is None else c)
    if op == "LSTM" and c is None:
        c = zeros
    return results, zeros if h is None else h, c
