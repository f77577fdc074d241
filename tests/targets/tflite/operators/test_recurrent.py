"""LSTM, GRU and RNN compute what ONNX Runtime computes, in every variant."""

from __future__ import annotations

import numpy as np
import pytest

from .single import assert_same

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def operands(op: str, *, directions: int, layout: int = 0) -> list[np.ndarray | None]:
    """X, W, R, B, lengths, initial_h and, for LSTM, initial_c and P."""
    steps, batch, inputs, hidden = 5, 3, 4, 6
    rng = np.random.default_rng(len(op) * 10 + directions)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32) * np.float32(0.5)

    size = GATES[op] * hidden
    sequence = (batch, steps, inputs) if layout else (steps, batch, inputs)
    state = (batch, directions, hidden) if layout else (directions, batch, hidden)
    made: list[np.ndarray | None] = [
        normal(*sequence),
        normal(directions, size, inputs),
        normal(directions, size, hidden),
        normal(directions, 2 * size),
        np.array([2, 5, 4], np.int32),
        normal(*state),
    ]
    if op == "LSTM":
        made += [normal(*state), normal(directions, 3 * hidden)]
    return made


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("bound", [True, False])
def test_every_operand_in_every_direction(op: str, direction: str, bound: bool) -> None:
    given = operands(op, directions=2 if direction == "bidirectional" else 1)
    constant = (1, 2, 3, 4, 7) if bound else ()
    assert_same(op, given, constant=constant, outputs=3 if op == "LSTM" else 2, hidden_size=6, direction=direction)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("left_out", [(4,), (3, 4), (4, 5, 6), (3, 4, 5, 6, 7)])
def test_operands_left_out(op: str, left_out: tuple[int, ...]) -> None:
    given = [None if n in left_out else array for n, array in enumerate(operands(op, directions=1))]
    lowered = assert_same(op, given, constant=(1, 2, 3, 7), outputs=3 if op == "LSTM" else 2, hidden_size=6)
    codes = [item.code for item in lowered.payload.ops]
    assert "SELECT_V2" not in codes  # nothing is masked when every sequence has all steps


@pytest.mark.parametrize("op", GATES)
def test_nothing_but_weights(op: str) -> None:
    given = operands(op, directions=1)[:3]
    assert_same(op, given, constant=(1, 2), outputs=2, hidden_size=6)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_gru_resets_after_the_product(direction: str) -> None:
    given = operands("GRU", directions=2 if direction == "bidirectional" else 1)
    for constant in ((1, 2, 3), ()):
        assert_same(
            "GRU", given, constant=constant, outputs=2, hidden_size=6, direction=direction, linear_before_reset=1
        )
    given[5] = None
    assert_same("GRU", given, constant=(1, 2, 3), outputs=2, hidden_size=6, direction=direction, linear_before_reset=1)


def test_lstm_couples_input_and_forget_gates() -> None:
    given = operands("LSTM", directions=1)
    given[7] = None
    assert_same("LSTM", given, constant=(1, 2, 3), outputs=3, hidden_size=6, input_forget=1)


@pytest.mark.parametrize("op", GATES)
def test_clipping(op: str) -> None:
    given = operands(op, directions=1)
    assert given[0] is not None
    given[0] = given[0] * 4
    assert_same(op, given, constant=(1, 2, 3), outputs=3 if op == "LSTM" else 2, hidden_size=6, clip=0.5)


@pytest.mark.parametrize(
    "names, alpha, beta",
    [
        (["Relu"], None, None),
        (["LeakyRelu"], [0.1], None),
        (["HardSigmoid"], [0.3], [0.4]),
        (["Elu"], [0.7], None),
        (["Affine"], [0.3], [0.1]),
        (["ScaledTanh"], [0.9], [0.8]),
        (["Softsign"], None, None),
        (["Softplus"], None, None),
        (["ThresholdedRelu"], [0.2], None),
    ],
)
def test_activations(names: list[str], alpha: list[float] | None, beta: list[float] | None) -> None:
    given = operands("RNN", directions=1)
    extra = {} if alpha is None else {"activation_alpha": alpha}
    extra |= {} if beta is None else {"activation_beta": beta}
    assert_same("RNN", given, constant=(1, 2, 3), outputs=2, hidden_size=6, activations=names, **extra)


def test_alphas_are_consumed_in_the_order_of_the_activations_that_have_one() -> None:
    given = operands("GRU", directions=2)
    assert_same(
        "GRU",
        given,
        constant=(1, 2, 3),
        outputs=2,
        hidden_size=6,
        direction="bidirectional",
        activations=["Sigmoid", "LeakyRelu", "HardSigmoid", "Tanh"],
        activation_alpha=[0.1, 0.3],
        activation_beta=[0.4],
    )
