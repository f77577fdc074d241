"""Compiled models are decoded, damaged ones end in an error, whatever the bytes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.converter.importers import inspect_source
from edgec.errors import EdgecError, ModelError
from edgec.targets.edgetpu.mapping import predict
from edgec.targets.edgetpu.package import decode, decode_bytes, leftovers, read_package
from edgec.targets.edgetpu.report import describe
from edgec.targets.tflite.graph import parse, read
from tests.targets.edgetpu.pairs import pair
from tests.targets.edgetpu.synthetic import Net, Part, compiled, custom_options, give_options, package


def source(folder: Path) -> Path:
    net = Net()
    return net.write(folder / "model.tflite", net.convolution(net.input(1, 8, 8, 4), 4, "end"))


def test_a_synthetic_package_is_decoded() -> None:
    parts = (Part(2, parameters=64, instructions=100), Part(1, parameters=4096, instructions=50))
    found = read_package(package(parts, runtime=14))
    assert (found.minimum_runtime_version, found.compiler_version, found.chips) == (14, "cl/test", ("beagle",))
    assert (found.cached_bytes, found.streamed_bytes) == (4096, 64)
    assert sum(item.instruction_bytes for item in found.executables) == 150
    assert read_package(package((Part(0, parameters=10),))).streamed_bytes == 10


@pytest.mark.parametrize(
    ("options", "runtime", "cached"),
    [
        (custom_options(chip="beagle"), 13, 640),
        (custom_options(), 13, 640),
        (custom_options(further=()), 13, 640),
        (custom_options(package((Part(0, 8, chip="other"),), 10), further=(package(runtime=14),)), 14, 640),
        (custom_options(package((Part(0, 8),), 12), further=(package((Part(1, 9, chip="other"),), 14),)), 12, 0),
    ],
    ids=["compiler 1.0", "compiler 2", "compiler 16", "another chip first", "another chip behind"],
)
def test_the_options_of_every_compiler_are_read(options: bytes, runtime: int, cached: int, tmp_path: Path) -> None:
    facts = decode(compiled(source(tmp_path), tmp_path / "made.tflite", options=options)).to_json()
    assert (facts["minimum_runtime_version"], facts["cached_parameter_bytes"]) == (runtime, cached)
    assert facts["chips"] == ["beagle"]


def test_several_programs_in_one_file_are_added_up(tmp_path: Path) -> None:
    """With several subgraphs (option -a of the compiler) a file holds several custom operators."""
    first = package((Part(2, parameters=10), Part(1, parameters=100)), runtime=12)
    second = package((Part(0, parameters=1000),), runtime=14)
    net = Net()
    y = net.add("CUSTOM", [net.input(1, 8)], (1, 8), custom="edgetpu-custom-op")
    y = net.add("ELU", [y], (1, 8))
    y = net.add("CUSTOM", [y], (1, 8), custom="edgetpu-custom-op")
    path = net.write(tmp_path / "made.tflite", y)
    give_options(path, {0: custom_options(first), 2: custom_options(second)})
    facts = decode(path).to_json()
    assert facts["subgraphs_on_device"] == 2
    assert facts["minimum_runtime_version"] == 14
    assert (facts["cached_parameter_bytes"], facts["streamed_parameter_bytes"]) == (100, 1010)
    assert facts["left_on_cpu"] == [{"index": 1, "operator": "ELU"}]


def test_operators_that_are_alike_are_told_apart_by_their_order(tmp_path: Path) -> None:
    net = Net()
    x = net.convolution(net.input(1, 8, 8, 4), 4, "same")
    x = net.add("RELU", [x], (1, 8, 8, 4), name="same")
    x = net.add("RELU", [x], (1, 8, 8, 4), name="same")
    plain = net.write(tmp_path / "model.tflite", net.add("ELU", [x], (1, 8, 8, 4), name="same"))
    made = decode(compiled(plain, tmp_path / "made.tflite", left=[2, 3]))
    assert leftovers(read(plain), [made]) == [2, 3]


@pytest.mark.parametrize(
    "options",
    [
        b"",
        b"\0\0\0",
        custom_options(b""),
        custom_options(b"not a package"),
        custom_options(package(())),
        custom_options(further=(b"not a package",)),
        b"\x04\x28\x01",
    ],
    ids=["none", "zeros", "empty", "text", "no executable", "damaged further", "string"],
)
def test_damaged_programs(options: bytes, tmp_path: Path) -> None:
    made = compiled(source(tmp_path), tmp_path / "made.tflite", options=options)
    with pytest.raises(ModelError) as caught:
        decode(made)
    assert (caught.value.code, caught.value.exit_code) == ("EDG114", 3)


def test_an_unknown_kind_of_executable(tmp_path: Path) -> None:
    made = compiled(source(tmp_path), tmp_path / "made.tflite", options=custom_options(package((Part(7),))))
    with pytest.raises(ModelError, match="damaged"):
        decode(made)


def test_a_model_without_a_program(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        decode(source(tmp_path))
    assert caught.value.code == "EDG114"
    for content, code in ((b"", "EDG102"), (b"text, and no model at all", "EDG114")):
        path = tmp_path / "file.tflite"
        path.write_bytes(content)
        with pytest.raises(ModelError) as caught:
            decode(path)
        assert caught.value.code == code
    with pytest.raises(ModelError) as caught:
        decode(tmp_path / "absent.tflite")
    assert caught.value.code == "EDG101"


def damaged(data: bytes, seed: int) -> bytes:
    """The bytes with some of them changed, or cut off."""
    generator = random.Random(seed)
    changed = bytearray(data)
    if generator.random() < 0.2:
        return bytes(changed[: generator.randrange(8, len(changed))])
    for _ in range(generator.choice((1, 2, 4, 16))):
        place = generator.randrange(8, len(changed))
        value = generator.choice((0, 1, 0x7F, 0x80, 0xFF, generator.randrange(256)))
        width = generator.choice((1, 4))
        changed[place : place + width] = bytes([value]) * len(changed[place : place + width])
    return bytes(changed)


def test_damaged_bytes_end_in_an_error_or_in_a_result(tmp_path: Path) -> None:
    data = compiled(source(tmp_path), tmp_path / "made.tflite").read_bytes()
    for seed in range(600):
        try:
            decode_bytes(damaged(data, seed)).to_json()
        except EdgecError as error:
            assert error.exit_code == 3


def test_a_damaged_real_model_ends_in_an_error_or_in_a_result() -> None:
    data = pair("split_concat").compiled.read_bytes()
    for seed in range(300):
        try:
            decode_bytes(damaged(data, seed)).to_json()
        except EdgecError as error:
            assert error.exit_code == 3


def test_damaged_sources_end_in_an_error_or_in_a_verdict(tmp_path: Path) -> None:
    net = Net()
    x = net.convolution(net.input(1, 8, 8, 4), 4)
    x = net.add("RESIZE_BILINEAR", [x, net.constant([16, 16])], (1, 16, 16, 4))
    x = net.add("MEAN", [x, net.constant([1, 2])], (1, 4))
    x = net.add("RESHAPE", [x, net.constant([4, 1])], (4, 1))
    data = net.write(tmp_path / "model.tflite", net.add("SOFTMAX", [x], (4, 1))).read_bytes()
    judged = 0
    for seed in range(1500):
        try:
            model = parse(damaged(data, seed))
            describe(model, predict(model.main))
            judged += 1
        except EdgecError as error:
            assert error.exit_code == 3
    assert judged > 100


def test_inspecting_a_compiled_model(tmp_path: Path) -> None:
    facts = inspect_source(compiled(source(tmp_path), tmp_path / "made.tflite"))
    assert facts["edgetpu"]["minimum_runtime_version"] == 13


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_behind_the_mark(content: bytes) -> None:
    for data in (b"\x08\0\0\0TFL3" + content, content):
        with pytest.raises(EdgecError):
            decode_bytes(data)
    with pytest.raises(ValueError):
        read_package(b"\x08\0\0\0DWN1" + content[:6])
