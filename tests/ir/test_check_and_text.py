"""The checker finds what is broken; the text form goes both ways."""

from __future__ import annotations

import pytest

from edgec.errors import EdgecError, ModelError, UsageError
from edgec.ir.check import check_model
from edgec.ir.graph import Model, Value
from edgec.ir.passes import DEFAULT
from edgec.ir.passes.base import REGISTRY, parse_pipeline
from edgec.ir.text import from_text, to_text
from edgec.ir.types import DataType
from tests.ir.equivalence import apply, model_of, ops_of

TEXT = "g (float[2,3] x) => (float[2,3] y) <float b = {1}> { a = Add(x, b) y = Relu(a) }"


def _folded(text: str = TEXT) -> Model:
    return apply(model_of(text), "fold-constants")


def _code(model: Model, **options: bool) -> str:
    with pytest.raises(EdgecError) as raised:
        check_model(model, **options)
    assert raised.value.code == "EDG601"
    return raised.value.message


def test_a_sound_model_passes() -> None:
    check_model(_folded(), canonical=True, static=True)


def test_finds_a_use_before_the_definition() -> None:
    model = _folded()
    first = next(iter(model.graph.nodes))
    model.graph.detach(first)
    model.graph.append(first)
    assert "before it is defined" in _code(model)


def test_finds_a_wrong_type() -> None:
    model = _folded()
    model.graph.outputs[0].shape = (2, 4)
    assert "is declared" in _code(model)


def test_finds_an_identity() -> None:
    model = _folded("g (float[2] x) => (float[2] y) { y = Identity(x) }")
    check_model(model)
    assert "not canonical" in _code(model, canonical=True)


def test_finds_an_unknown_extent() -> None:
    model = _folded("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    check_model(model, canonical=True)
    assert "static" in _code(model, static=True)


def test_finds_an_unknown_operator_and_missing_sources() -> None:
    model = _folded()
    node = next(iter(model.graph.nodes))
    node.sources = ()
    assert "names no source" in _code(model)
    node.sources, node.op = ("a",), "Summe"
    assert "no operator" in _code(model)


def test_finds_an_input_that_is_none() -> None:
    model = _folded()
    other = Value("other", DataType.FLOAT, (2, 3))
    node = next(iter(model.graph.nodes))
    node.set_input(0, other)
    assert "'other'" in _code(model)


def test_text_goes_both_ways() -> None:
    model = _folded()
    assert ops_of(from_text(to_text(model, None))) == ops_of(model)


def test_large_constants_are_left_out_of_the_text() -> None:
    values = ", ".join("1" for _ in range(20))
    text = to_text(
        _folded(f"g (float[20] x) => (float[20] y) <float[20] large = {{{values}}}> {{ y = Add(x, large) }}")
    )
    assert "# large = float[20] {...}" in text
    assert text.count("large") == 2


def test_a_syntax_error_is_a_model_error() -> None:
    with pytest.raises(ModelError):
        from_text("nonsense")


def test_the_default_pipeline_reads_back_and_names_every_pass_but_the_optional() -> None:
    passes = parse_pipeline(DEFAULT)
    assert ",".join(str(item) for item in passes) == DEFAULT
    optional = (
        "decompose expand-activations expand-functions expand-qlinear float16 fuse-layernorm fuse-upsample "
        "quantize-between rewrite-ml select-branches slice-unequal-splits split-means split-resizes wrap-moves"
    ).split()
    assert {item.name for item in passes} | set(optional) >= set(REGISTRY)


def test_every_pass_says_what_it_does() -> None:
    assert all(cls.__doc__ and len(cls.__doc__) > 80 for cls in REGISTRY.values())


@pytest.mark.parametrize(
    "text", ["fuse", "fold-constants{limit}", "fold-constants{limit=x}", "fold-constants{a=1}", "{"]
)
def test_a_wrong_pipeline_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_pipeline(text)
    assert raised.value.code == "EDG004"
