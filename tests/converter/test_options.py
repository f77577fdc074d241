"""One record of options: what it names is what the Python API, the command line and the manifest have."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import click
import pytest

import edgec
from edgec.cli.options import keywords
from edgec.converter import options
from edgec.converter.calibration.images import ImageOptions
from edgec.converter.options import DEFAULTS, ELSEWHERE, ConversionKeywords, ConversionOptions
from edgec.errors import UsageError

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "convert": edgec.convert,
    "check": edgec.check,
    "bisect": edgec.bisect,
    "quantize": edgec.quantize,
    "import_": edgec.import_,
    "tune": edgec.tune,
}


def given_to(name: str) -> dict[str, Any]:
    """The keywords that a command without options makes of its options."""
    found = importlib.import_module(f"edgec.cli.{name}").command
    needed = [f"--{item.name}=tflite" for item in found.params if item.required and isinstance(item, click.Option)]
    return keywords(found.make_context(name, ["model.onnx", *needed]).params)


def test_keywords_and_record_are_the_same_options() -> None:
    assert get_type_hints(ConversionKeywords) == get_type_hints(ConversionOptions)


@pytest.mark.parametrize("group", [name for name in vars(options) if name.endswith("Keywords")])
def test_every_group_has_options_of_the_record(group: str) -> None:
    hints = get_type_hints(ConversionOptions)
    for name, kind in get_type_hints(getattr(options, group)).items():
        assert kind == hints[name], name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_help_lists_the_options_with_their_defaults(name: str) -> None:
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    assert not any(item.kind is item.VAR_KEYWORD for item in parameters.values())
    for option in ("batch", "calibration" if name != "import_" else "data", "trust"):
        assert parameters[option].default == DEFAULTS[option]
        assert parameters[option].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_name_that_is_no_option_is_refused(name: str) -> None:
    required = {"target": "tflite", "output": "out"}
    given = {key: value for key, value in required.items() if key in inspect.signature(FUNCTIONS[name]).parameters}
    with pytest.raises(TypeError, match=r"\(\) got an unexpected keyword argument 'precisoin'"):
        FUNCTIONS[name]("model.onnx", **given, precisoin="int8")


def test_an_option_of_another_function_is_refused() -> None:
    with pytest.raises(TypeError, match="max_drop"):
        FUNCTIONS["check"]("model.onnx", target="tflite", max_drop=0.01)


@pytest.mark.parametrize("name", ["convert", "bisect"])
def test_every_option_reaches_the_command_line(name: str) -> None:
    missing = set(DEFAULTS) - set(given_to(name)) - {"isolate"}
    assert missing == ({"io_layout"} if name == "bisect" else set())


@pytest.mark.parametrize("name", ["convert", "check", "bisect", "quantize", "import_", "tune"])
def test_what_a_command_reads_is_taken_by_its_function(name: str) -> None:
    taken = set(inspect.signature(FUNCTIONS[name]).parameters)
    assert set(given_to(name)) & set(DEFAULTS) <= taken


def test_options_of_the_command_line_become_keywords() -> None:
    found = keywords(
        {
            "input_shapes": (("x", (1, 3)),),
            "ranges": (("x", (0.0, 255.0)),),
            "target_options": (("optimise", "size"),),
            "segments": 2,
            "accelerator": None,
            "require_device": True,
            "io_layout": "nhwc",
            "mean": (127.5,),
            "scale": (1.0,),
            "resize": "crop",
            "layout": "nchw",
            "seed": 3,
        }
    )
    assert found == {
        "input_shapes": {"x": (1, 3)},
        "ranges": {"x": (0.0, 255.0)},
        "target_options": {"optimise": "size", "segments": 2, "require-device": True},
        "io_layout": "NHWC",
        "images": ImageOptions((127.5,), (1.0,), "crop", "NCHW"),
        "seed": 3,
    }


def test_the_manifest_has_every_option_without_paths_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "system.ini").write_text("[system]\n")
    asked = ConversionOptions(batch=2, cache=tmp_path, target_options={"config": str(tmp_path / "system.ini")})
    entry = asked.manifest_entry(precision="int8")
    assert set(entry) | ELSEWHERE == set(DEFAULTS) and not set(entry) & ELSEWHERE
    assert entry["batch"] == 2 and entry["precision"] == "int8"
    assert entry["target_options"]["config"]["name"] == "system.ini"
    assert str(tmp_path) not in str(entry)


def test_a_study_keeps_what_was_given_and_nothing_else() -> None:
    asked = ConversionOptions(precision="int8", images=ImageOptions(resize="crop"), cache="here", ranges={"x": (0, 1)})
    images = {"mean": [0.0], "scale": [1.0], "resize": "crop", "layout": None}
    assert asked.study_entry() == {"images": images, "precision": "int8", "ranges": {"x": [0, 1]}}


def test_check_asks_about_the_device_that_is_given() -> None:
    model = Path(__file__).parents[2] / "examples" / "digits" / "digits_qdq.onnx"
    with pytest.raises(UsageError, match="ethos-u99"):
        edgec.check(model, target="ethosu", target_options={"accelerator": "ethos-u99"})
    with pytest.raises(UsageError, match="no option 'accelerator'"):
        edgec.check(model, target="tflite", target_options={"accelerator": "ethos-u55-128"})
