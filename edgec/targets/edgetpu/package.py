"""Decode what the Edge TPU compiler made: runtime version, chip, parameter bytes, and the operators that it left.

A compiled ``.tflite`` holds custom operators ``edgetpu-custom-op``; their options are a flexbuffer map whose entry "4"
is a flatbuffer ``Package`` (file identifier DWN1), which holds flatbuffers ``Executable``.  Entry "7" may hold further
packages, for other chips, one of which runs instead.

Source: tflite/custom_op_data.cc and executable/executable.fbs of github.com/google-coral/libedgetpu; field numbers
count from 0 in the order of that schema.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgec.errors import ModelError
from edgec.targets.tflite.flatbuffer import Malformed, Reader, Table
from edgec.targets.tflite.graph import FlatModel, FlatOperator, parse, read

CUSTOM_OPERATOR: Final = "edgetpu-custom-op"
EXECUTABLE_KINDS: Final = ("stand-alone", "parameter-caching", "execution-only")
MAX_EXECUTABLES: Final = 256
CHIP: Final = "beagle"
"""The Coral Edge TPU."""

_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


@dataclass(frozen=True)
class Layer:
    """An input or output of an executable; extents as the chip counts them (1 where there is none)."""

    name: str
    size_bytes: int
    height: int
    width: int
    depth: int


@dataclass(frozen=True)
class Executable:
    """One program for the chip.

    Attributes:
        kind: ``stand-alone``, ``parameter-caching`` (loads parameters, once) or ``execution-only``.
        parameter_bytes: what it brings to the chip.
        scratch_bytes: host memory that it needs while it runs.
        narrow_memory_bytes: on-chip memory per tile that it uses.
        estimated_cycles: 0 where the compiler left it out (all after 2020).
        caching_token: executables with the same token share the on-chip memory.
    """

    kind: str
    chip: str
    name: str
    batch: int
    parameter_bytes: int
    instruction_bytes: int
    scratch_bytes: int
    narrow_memory_bytes: int
    estimated_cycles: int
    caching_token: int
    inputs: tuple[Layer, ...]
    outputs: tuple[Layer, ...]


@dataclass(frozen=True)
class Package:
    """What one ``edgetpu-custom-op`` holds.

    Attributes:
        minimum_runtime_version: oldest runtime (``libedgetpu``) that can run it.
        compiler_version: empty where the compiler did not say.
    """

    minimum_runtime_version: int
    compiler_version: str
    model_identifier: str
    executables: tuple[Executable, ...]

    @property
    def chips(self) -> tuple[str, ...]:
        """The chips that it was compiled for; ``beagle`` is the Coral Edge TPU."""
        return tuple(sorted({item.chip for item in self.executables}))

    @property
    def cached_bytes(self) -> int:
        """Parameters that stay in the chip's memory between inferences."""
        return sum(item.parameter_bytes for item in self.executables if item.kind == "parameter-caching")

    @property
    def streamed_bytes(self) -> int:
        """Parameters that cross the bus in every inference."""
        return sum(item.parameter_bytes for item in self.executables if item.kind != "parameter-caching")


@dataclass(frozen=True)
class Compiled:
    """A compiled model.

    Attributes:
        packages: one per Edge TPU subgraph.
        left: operators on the CPU: position in the compiled file, name of the operator, name of its first result.
        model: the file itself.
    """

    packages: tuple[Package, ...]
    left: tuple[tuple[int, str, str], ...]
    model: FlatModel

    @property
    def minimum_runtime_version(self) -> int:
        """That of its most demanding package."""
        return max((item.minimum_runtime_version for item in self.packages), default=0)

    def to_json(self) -> dict[str, Any]:
        """The facts for manifests and ``edgec inspect``."""
        return {
            "subgraphs_on_device": len(self.packages),
            "minimum_runtime_version": self.minimum_runtime_version,
            "compiler_version": sorted({item.compiler_version for item in self.packages if item.compiler_version}),
            "chips": sorted({chip for item in self.packages for chip in item.chips}),
            "cached_parameter_bytes": sum(item.cached_bytes for item in self.packages),
            "streamed_parameter_bytes": sum(item.streamed_bytes for item in self.packages),
            "instruction_bytes": sum(e.instruction_bytes for item in self.packages for e in item.executables),
            "scratch_bytes": sum(e.scratch_bytes for item in self.packages for e in item.executables),
            "left_on_cpu": [{"index": index, "operator": operator} for index, operator, _ in self.left],
        }


def decode(path: Path) -> Compiled:
    """Decode a compiled ``.tflite``.

    Raises:
        ModelError: EDG101, EDG102, EDG109 or EDG114 for what is no readable LiteRT file, EDG114 where it holds no
            Edge TPU program or a damaged one.
    """
    return _decode(read(path), path.name)


def decode_bytes(data: bytes, name: str = "model") -> Compiled:
    """The same from bytes."""
    return _decode(parse(data, Path(name)), name)


def _decode(model: FlatModel, name: str) -> Compiled:
    packages = []
    left = []
    for operator in model.main.operators:
        if operator.custom == CUSTOM_OPERATOR:
            packages.append(_package_of(operator.custom_options, name))
        else:
            left.append((operator.index, operator.title, operator.name))
    if not packages:
        raise ModelError(
            "EDG114",
            f"'{name}' holds no Edge TPU program",
            where=name,
            why=f"none of its {len(left)} operators is {CUSTOM_OPERATOR}",
            help="compile it: edgec convert MODEL --target edgetpu",
        )
    return Compiled(tuple(packages), tuple(left), model)


def is_compiled(model: FlatModel) -> bool:
    """Whether a LiteRT file came out of the Edge TPU compiler."""
    return any(operator.custom == CUSTOM_OPERATOR for operator in model.main.operators)


def _package_of(options: bytes, name: str) -> Package:
    try:
        packages = [read_package(content) for content in _serialized(options)]
        return next((item for item in packages if CHIP in item.chips), packages[0])
    except _DAMAGE as error:
        raise ModelError(
            "EDG114",
            f"'{name}' holds a damaged Edge TPU program",
            where=name,
            why=str(error) or type(error).__name__,
            help="compile it again, or get the file again and compare its checksum",
        ) from error


def _serialized(options: bytes) -> list[bytes]:
    """Entry "4" of the flexbuffer map, and those of the list in its entry "7"."""
    from flatbuffers import flexbuffers

    if len(options) < 3:
        raise Malformed("the custom operator has no options")
    entries = flexbuffers.GetRoot(options).AsMap
    if not entries["4"].IsString:
        raise Malformed("the custom operator's options hold no program")
    contents = [bytes(entries["4"].AsStringBytes)]
    try:
        further = entries["7"].AsVector
    except KeyError:  # older compilers write none
        return contents
    if len(further) > MAX_EXECUTABLES:
        raise Malformed("there are too many programs")
    return [*contents, *(bytes(item.AsStringBytes) for item in further)]


def read_package(data: bytes) -> Package:
    """The package in its serialized form.

    Raises:
        ValueError: it is damaged.
    """
    if data[4:8] != b"DWN1":
        raise Malformed("the program does not bear the mark DWN1")
    root = Reader(data).root()
    executables: list[Executable] = []
    for content in _executables(root.content(1)):
        if len(executables) == MAX_EXECUTABLES:
            raise Malformed("there are too many programs")
        executables.append(_executable(Reader(content).root()))
    if not executables:
        raise Malformed("there is no program")
    return Package(int(root.number(0, "i")), root.text(4), root.text(7), tuple(executables))


def _executables(multi: bytes) -> list[bytes]:
    if len(multi) < 8:
        raise Malformed("there is no program")
    return list(Reader(multi).root().strings(0))


def _executable(table: Table) -> Executable:
    kind = int(table.number(13, "h"))
    if not 0 <= kind < len(EXECUTABLE_KINDS):
        raise Malformed(f"a program is of the unknown kind {kind}")
    return Executable(
        kind=EXECUTABLE_KINDS[kind],
        chip=table.text(10),
        name=table.text(1),
        batch=int(table.number(3, "i")),
        parameter_bytes=table.span(6)[1],
        instruction_bytes=sum(stream.span(0)[1] for stream in table.tables(5)),
        scratch_bytes=int(table.number(4, "i")),
        narrow_memory_bytes=int(table.number(12, "i")),
        estimated_cycles=int(table.number(16, "q")) or int(table.number(11, "i")),
        caching_token=int(table.number(14, "Q")),
        inputs=tuple(_layer(item) for item in table.tables(8)),
        outputs=tuple(_layer(item) for item in table.tables(9)),
    )


def _layer(table: Table) -> Layer:
    return Layer(
        table.text(0),
        int(table.number(1, "i")),
        int(table.number(2, "i")),
        int(table.number(3, "i")),
        int(table.number(4, "i")),
    )


def leftovers(source: FlatModel, compiled: Sequence[Compiled]) -> list[int]:
    """Positions in the source of the operators that are still operators in the compiled files.

    An operator is found again by what it is and by the names of its results.  Of several that are alike in the source
    the last ones are taken, as the Edge TPU's part comes first.
    """
    kept = Counter(_identity(item.model.main.operators[index]) for item in compiled for index, _, _ in item.left)
    found = []
    for operator in reversed(source.main.operators):
        identity = _identity(operator)
        if kept[identity]:
            kept[identity] -= 1
            found.append(operator.index)
    return found[::-1]


def _identity(operator: FlatOperator) -> tuple[str, ...]:
    return (operator.title, *(tensor.name for tensor in operator.outputs))
