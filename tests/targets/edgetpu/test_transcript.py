"""Transcripts of several versions are read; unknown lines are passed over."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.targets.edgetpu.transcript import parse, parse_log, size
from tests.targets.edgetpu import transcripts


def test_success_of_version_16() -> None:
    found = parse(transcripts.SUCCESS_16.format(stem="model"))
    assert (found.version, found.major, found.failures) == ("16.0.384591198", 16, ())
    (model,) = found.models
    assert (model.input, model.output, model.log) == ("model.tflite", "model_edgetpu.tflite", "model_edgetpu.log")
    assert model.milliseconds == 1857
    assert model.cached_bytes == round(6.02 * 2**20)
    assert model.remaining_bytes == round(1.02 * 2**20)
    assert model.streamed_bytes == 0
    assert (model.subgraphs, model.operators, model.on_cpu) == (1, 84, None)


def test_partial_mapping_of_version_15() -> None:
    found = parse(transcripts.PARTIAL_15.format(stem="m", total=84, mapped=78, left=6))
    (model,) = found.models
    assert (found.major, model.operators, model.on_device, model.on_cpu) == (15, 84, 78, 6)
    assert [(row.operator, row.count, row.status) for row in model.rows] == [
        ("CONV_2D", 1, "More than one subgraph is not supported"),
        ("CONV_2D", 32, "Mapped to Edge TPU"),
    ]


def test_version_2_speaks_of_available_memory() -> None:
    (model,) = parse(transcripts.SUCCESS_2).models
    assert model.remaining_bytes == round(7.62 * 2**20)
    assert model.cached_bytes == round(5.66 * 2**20)


def test_failures_are_found() -> None:
    for text in (transcripts.NOT_QUANTIZED, transcripts.NOT_PARSED, transcripts.INTERNAL_ERROR, transcripts.UNWRITABLE):
        assert parse(text).failures
    assert parse("").version == ""


def test_an_operation_log_has_rows() -> None:
    rows = parse_log(transcripts.LOG.format(stem="m"))
    assert [(row.operator, row.count) for row in rows] == [("CONV_2D", 2), ("DEQUANTIZE", 2)]


def test_sizes_have_units() -> None:
    assert [size(text) for text in ("0.00B", "5.75KiB", "1.5MiB", "2GiB", "many")] == [0, 5888, 1572864, 2**31, None]


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.text(max_size=400))
def test_any_text_is_read(text: str) -> None:
    parse(text)
    parse_log(text)
    parse("Input model: x\n" + text)
