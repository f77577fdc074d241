"""Options and argument types that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def named_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``NAME:1,3,640,640``: the name ends at the last colon, so names may hold colons; nothing after it is a scalar.

    Raises:
        click.BadParameter: there is no name, or what follows is no list of extents.
    """
    name, colon, dims = text.rpartition(":")
    if not colon or not name:
        raise click.BadParameter(f"'{text}' has no NAME: in front, write NAME:1,3,640,640")
    try:
        shape = tuple(int(dim) for dim in dims.split(",")) if dims.strip() else ()
    except ValueError:
        raise click.BadParameter(f"'{dims}' is no list of extents like 1,3,640,640") from None
    if any(dim < 0 for dim in shape):
        raise click.BadParameter(f"'{dims}' has a negative extent")
    return name, shape


def named_range(text: str) -> tuple[str, tuple[float, float]]:
    """``NAME:lo,hi``: the name ends at the last colon.

    Raises:
        click.BadParameter: there is no name, or what follows is no finite range.
    """
    name, colon, bounds = text.rpartition(":")
    if not colon or not name:
        raise click.BadParameter(f"'{text}' has no NAME: in front, write NAME:0,255")
    try:
        low, high = (float(bound) for bound in bounds.split(","))
    except ValueError:
        raise click.BadParameter(f"'{bounds}' is no range like 0,255") from None
    if not (low <= high and abs(low) < float("inf") and abs(high) < float("inf")):
        raise click.BadParameter(f"'{bounds}' is no finite range from low to high")
    return name, (low, high)


def collect(pairs: Iterable[tuple[str, Any]], option: str) -> dict[str, Any]:
    """The pairs of a repeated option by name.

    Raises:
        click.BadParameter: a name is given twice.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise click.BadParameter(f"'{name}' is given twice", param_hint=option)
        found[name] = value
    return found


def reporting(command: Command) -> Command:
    """``--json`` and ``--debug``, which every command takes; the outermost frame reads ``--debug``."""
    for option in (
        click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback with every error."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output."),
    ):
        command = option(command)
    return command


def shapes(command: Command) -> Command:
    """``--input-shape`` and ``--batch``."""
    for option in (
        click.option("--batch", type=click.IntRange(min=1), metavar="N", help="Extent of a leading unknown dimension."),
        click.option(
            "--input-shape",
            "input_shapes",
            type=named_shape,
            multiple=True,
            metavar="NAME:DIMS",
            help="Shape of an input, for example x:1,3,640,640. The name ends at the last colon. Repeat per input.",
        ),
    ):
        command = option(command)
    return command


def source(command: Command) -> Command:
    """``--signature`` and ``--trust``: how a SavedModel or Keras file is read."""
    for option in (
        click.option(
            "--trust", is_flag=True, help="Let the model run code of its own (Lambda layers, custom objects)."
        ),
        click.option("--signature", metavar="NAME", help="Signature of a SavedModel. Default: serving_default."),
    ):
        command = option(command)
    return command


def target(command: Command) -> Command:
    """``--target``, which is required."""
    return click.option(
        "--target", "-t", required=True, metavar="NAME", help="What to convert to; `edgec targets` lists them."
    )(command)


def named_option(text: str) -> tuple[str, str]:
    """``KEY=VALUE``.

    Raises:
        click.BadParameter: there is no key.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"'{text}' is no KEY=VALUE")
    return key, value


def target_options(command: Command) -> Command:
    """``--option``, ``--accelerator``, ``--segments`` and ``--require-device``: what only some targets read."""
    for option in (
        click.option(
            "--option",
            "target_options",
            type=named_option,
            multiple=True,
            metavar="KEY=VALUE",
            help="An option of the target alone; docs/support/ lists them. Repeat per option.",
        ),
        click.option(
            "--accelerator", metavar="NAME", help="The NPU to compile for, such as ethos-u55-128 of the target ethosu."
        ),
        click.option(
            "--require-device", is_flag=True, help="Refuse a model of which a part would run beside the device."
        ),
        click.option(
            "--segments", type=click.IntRange(min=1), metavar="N", help="Cut the model into a pipeline for N devices."
        ),
    ):
        command = option(command)
    return command


def named_numbers(text: str) -> tuple[float, ...]:
    """``123.7,116.3,103.5``: numbers between commas.

    Raises:
        click.BadParameter: something between commas is no finite number.
    """
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"'{text}' is no list of numbers like 0.5 or 123.7,116.3,103.5") from None
    if any(abs(number) == float("inf") or number != number for number in numbers):
        raise click.BadParameter(f"'{text}' holds a number that is not finite")
    return numbers


def session(command: Command) -> Command:
    """What an artifact runs on: ``--delegate`` and others, see :func:`edgec.cli.session_options.session`."""
    from edgec.cli.session_options import session as added

    return added(command)


def images(command: Command) -> Command:
    """``--mean``, ``--scale``, ``--resize`` and ``--layout``: how images become inputs."""
    for option in (
        click.option(
            "--layout",
            type=click.Choice(["NCHW", "NHWC"], case_sensitive=False),
            help="Of the input that images go into. Default: by its shape.",
        ),
        click.option(
            "--resize",
            type=click.Choice(["stretch", "crop", "pad"]),
            default="stretch",
            show_default=True,
            help="How images get the size of the input.",
        ),
        click.option(
            "--scale",
            type=named_numbers,
            default="1",
            metavar="NUMBERS",
            help="Images become (pixel - mean) * scale, pixels from 0 to 255; one number, or one per "
            "channel.  [default: 1]",
        ),
        click.option("--mean", type=named_numbers, default="0", metavar="NUMBERS", help="See --scale.  [default: 0]"),
    ):
        command = option(command)
    return command


def calibration(command: Command) -> Command:
    """``--calibration``, ``--method`` and ``--cache``."""
    for option in (
        click.option(
            "--cache",
            type=click.Path(),
            metavar="FOLDER",
            help="Keep calibration statistics here. Default: edgec/calibration in the user's cache folder.",
        ),
        click.option(
            "--method",
            type=click.Choice(["minmax", "percentile", "entropy", "mse", "auto"], case_sensitive=False),
            default="minmax",
            show_default=True,
            help="How ranges follow from the calibration data; auto tries three and keeps the one of the best SQNR.",
        ),
        click.option(
            "--calibration",
            metavar="DATA",
            help="Typical inputs to quantize with: .npz, .npy, a folder of them or of images; 'random' only to try.",
        ),
    ):
        command = option(command)
    return command


def share(text: str) -> float:
    """``0.5%`` or ``0.005``.

    Raises:
        click.BadParameter: it is no share from 0 to 1.
    """
    number, percent, rest = text.partition("%")
    try:
        found = float(number) / (100 if percent else 1)
    except ValueError:
        found = -1.0
    if rest.strip() or not 0 <= found < 1:
        raise click.BadParameter(f"'{text}' is no share like 0.5% or 0.005")
    return found


def mixed(command: Command) -> Command:
    """``--max-drop``, ``--metric`` and ``--raise-to``: of ``--precision mixed``."""
    for option in (
        click.option(
            "--raise-to",
            type=click.Choice(["float32", "float16", "int16x8"], case_sensitive=False),
            help="What --precision mixed raises nodes to, as far as the target has it. Default: what it prefers.",
        ),
        click.option(
            "--metric",
            type=click.Choice(["top-1", "top-5", "relative-l2"], case_sensitive=False),
            help="What --max-drop is of. Default: top-1 accuracy where --data has labels, else the relative L2 of the "
            "worst output.",
        ),
        click.option(
            "--max-drop",
            type=share,
            metavar="SHARE",
            help="What --precision mixed may lose, for example 0.5%.  [default: 1% of accuracy, 5% of relative L2]",
        ),
    ):
        command = option(command)
    return command


def precision(command: Command) -> Command:
    """``--precision``, ``--io-dtype``, and the options of :func:`calibration`."""
    command = calibration(command)
    for option in (
        click.option(
            "--io-dtype",
            type=click.Choice(["float32", "float16", "int8", "uint8", "int16"], case_sensitive=False),
            help="Element type of float inputs and outputs: int8 with --precision int8 (uint8 for onnxruntime), int16 "
            "with int16x8, float16 with float16. Default: what the target prefers.",
        ),
        click.option(
            "--precision",
            metavar="NAME",
            help="float32, int8, int16x8, float16 (fp16), dynamic-int8 or mixed (int8 as far as --max-drop allows), as "
            "far as the target has it. Default: int8 with --calibration, else the target's own.",
        ),
    ):
        command = option(command)
    return command


def layout(command: Command) -> Command:
    """``--io-layout``."""
    return click.option(
        "--io-layout",
        type=click.Choice(["ONNX", "NHWC"], case_sensitive=False),
        help="ONNX keeps the model's shapes; NHWC turns image inputs and outputs channels-last. Default: NHWC for "
        "edgetpu and ethosu, ONNX for the other targets.",
    )(command)


def passes(command: Command) -> Command:
    """``--passes``."""
    return click.option("--passes", metavar="PIPELINE", help="Run these passes instead of the target's own.")(command)


def keywords(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the options of this module read, as keywords of the Python API; other names stay as they are.

    The keywords are those of :class:`edgec.converter.options.ConversionOptions`.

    Raises:
        click.BadParameter: a name is given twice.
    """
    found = dict(given)
    for name, option in (("input_shapes", "--input-shape"), ("ranges", "--range"), ("target_options", "--option")):
        if name in found:
            found[name] = collect(found[name], option)
    if "target_options" in found:
        segments, accelerator, required = (found.pop(name) for name in ("segments", "accelerator", "require_device"))
        extra = {"segments": segments, "accelerator": accelerator, "require-device": required or None}
        found["target_options"].update({name: value for name, value in extra.items() if value is not None})
    if found.get("io_layout"):
        found["io_layout"] = found["io_layout"].upper()
    if "resize" in found:
        from edgec.converter.calibration.images import ImageOptions

        mean, scale, resize, axes = (found.pop(name) for name in ("mean", "scale", "resize", "layout"))
        found["images"] = ImageOptions(mean, scale, resize, axes and axes.upper())
    return found


def samples(command: Command) -> Command:
    """``--data``, ``--range`` and ``--seed``: what the verification runs on."""
    for option in (
        click.option(
            "--seed",
            type=click.IntRange(min=0),
            default=0,
            metavar="N",
            show_default=True,
            help="Of the random samples.",
        ),
        click.option(
            "--range",
            "ranges",
            type=named_range,
            multiple=True,
            metavar="NAME:LO,HI",
            help="Range of the random samples of an input, for example x:0,255. Repeat per input.",
        ),
        click.option(
            "--data",
            type=click.Path(),
            metavar="PATH",
            help="Verify with these samples (.npz, .npy or a folder of them) instead of seeded random ones.",
        ),
    ):
        command = option(command)
    return command
