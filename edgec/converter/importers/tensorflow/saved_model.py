"""What a SavedModel folder holds, read from its bytes: no TensorFlow is needed and nothing is executed.

Source: TensorFlow's saved_model.proto, meta_graph.proto, graph.proto, function.proto, node_def.proto, types.proto.
"""

from __future__ import annotations

import mmap
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgec.converter.importers.onnx.wire import LENGTH, VARINT, Buffer, WireError, fields
from edgec.errors import ModelError, UsageError
from edgec.ir.types import Dim

MAX_FILES = 10_000
"""Most files in a SavedModel folder."""
MAX_BYTES = 1 << 36
"""Most bytes of them together."""
MAX_NODES = 2_000_000
"""Most nodes of the graph and its functions together."""

DEFAULT_SIGNATURE = "serving_default"
GRAPH_FILE = "saved_model.pb"

RUNS_CODE = frozenset("PyFunc PyFuncStateless EagerPyFunc XlaHostCompute".split())
"""Operators that call into Python."""
REACHES_FILES = frozenset(
    "ReadFile WriteFile MatchingFiles WholeFileReader WholeFileReaderV2 TextLineReader TextLineReaderV2 TFRecordReader "
    "TFRecordReaderV2 FixedLengthRecordReader FixedLengthRecordReaderV2 TextLineDataset TFRecordDataset "
    "TFRecordDatasetV2 FixedLengthRecordDataset FixedLengthRecordDatasetV2 CSVDataset CSVDatasetV2 CacheDataset "
    "CacheDatasetV2 SnapshotDataset SnapshotDatasetV2 SaveDataset SaveDatasetV2 LoadDataset LMDBDataset SqlDataset "
    "MatchingFilesDataset DataServiceDataset DataServiceDatasetV2 DataServiceDatasetV3 DataServiceDatasetV4 "
    "RegisterDataset RegisterDatasetV2 RpcCall RpcClient RpcServer ImportEvent WriteSummary CreateSummaryFileWriter "
    "CreateSummaryDbWriter DebugIdentity DebugIdentityV2 DebugIdentityV3 DebugNumericSummary DebugNumericSummaryV2 "
    "DebugNanCount".split()
)
"""Operators that read or write files, databases or the network when the model is loaded or run."""
SAVES = frozenset("Save SaveV2 SaveSlices MergeV2Checkpoints".split())
"""Operators with which every SavedModel can save itself; nobody asks them to, unless the model does so itself."""

_DTYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64",
    9: "int64", 10: "bool", 14: "bfloat16", 17: "uint16", 18: "complex128", 19: "float16", 20: "resource",
    21: "variant", 22: "uint32", 23: "uint64",
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """An input or output: its name in the signature, dtype, and shape (None: unknown extent, or unknown rank)."""

    name: str
    dtype: str | None
    shape: tuple[Dim, ...] | None
    source: str = ""


@dataclass(frozen=True)
class Signature:
    """One way to call the model; inputs and outputs are sorted by name, numbers in names by value."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass
class SavedModel:
    """A SavedModel.

    Attributes:
        version: the TensorFlow version that wrote it.
        tags: of the graph that is read, such as ``serve``.
        signatures: name to signature, the private ones (``__saved_model_init_op``) left out.
        operators: operator to the number of nodes, those of functions included.
        size: bytes of all files.
        dangers: operators that run code or reach outside, each with the first node that has it.
    """

    version: str = ""
    tags: tuple[str, ...] = ()
    signatures: dict[str, Signature] = field(default_factory=dict)
    operators: Counter[str] = field(default_factory=Counter)
    size: int = 0
    dangers: dict[str, str] = field(default_factory=dict)

    def choose(self, wanted: str | None) -> str:
        """The signature to use: the one that was asked for, ``serving_default``, or the only one.

        Raises:
            UsageError: EDG016.
        """
        if wanted is None and DEFAULT_SIGNATURE in self.signatures:
            return DEFAULT_SIGNATURE
        if wanted is None and len(self.signatures) == 1:
            return next(iter(self.signatures))
        if wanted in self.signatures:
            return str(wanted)
        listed = ", ".join(f"'{name}'" for name in self.signatures) or "none"
        message = f"the model has no signature '{wanted}'" if wanted else "the model has several signatures"
        if not self.signatures:
            message = "the model has no signature to call it by"
        raise UsageError("EDG016", message, why=f"its signatures: {listed}", help="--signature NAME")


def natural(name: str) -> tuple[object, ...]:
    """A sort key that puts ``output_2`` before ``output_10``."""
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", name))


def dangers(model: SavedModel) -> list[str]:
    """What a SavedModel would do besides computing, as sentences."""
    return [f"the operator '{operator}' (node '{node}')" for operator, node in sorted(model.dangers.items())]


def check_folder(folder: Path) -> int:
    """The size of a SavedModel's files in bytes.

    Raises:
        ModelError: EDG112 for too many or too large files, EDG116 without saved_model.pb, EDG117 for links and for
            what is neither file nor folder.
    """
    if not (folder / GRAPH_FILE).is_file():
        raise ModelError(
            "EDG116",
            f"'{folder.name}' holds no {GRAPH_FILE}",
            where=str(folder),
            why="only the binary form of a SavedModel is read",
            help="tf.saved_model.save(model, FOLDER)",
        )
    count = size = 0
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(parent, name)
            count += 1
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                kind = "a link" if path.is_symlink() else "neither file nor folder"
                raise ModelError(
                    "EDG117", f"'{path.relative_to(folder)}' is {kind}", where=str(folder), help="copy the files"
                )
            size += path.stat().st_size if path.is_file() else 0
        if count > MAX_FILES or size > MAX_BYTES:
            what = f"{MAX_FILES} files" if count > MAX_FILES else f"{MAX_BYTES} bytes"
            raise ModelError("EDG112", f"the SavedModel has more than {what}", where=str(folder))
    return size


def read_saved_model(folder: Path) -> SavedModel:
    """Read the outline of a SavedModel.

    Raises:
        ModelError: see :func:`check_folder`; EDG102 and EDG116 for a file that is no SavedModel, EDG112.
    """
    size = check_folder(folder)
    path = folder / GRAPH_FILE
    if path.stat().st_size == 0:
        raise ModelError("EDG102", f"'{path.name}' is empty", where=str(path), help="export the model again")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
        try:
            found = _read(buffer)
        except (WireError, UnicodeDecodeError) as error:
            raise ModelError(
                "EDG116", f"'{path.name}' is damaged", where=str(path), why=str(error), help="export the model again"
            ) from error
    if found is None:
        raise ModelError("EDG116", f"'{path.name}' holds no graph", where=str(path), help="export the model again")
    found.size = size
    return found


_Span = tuple[int, int]


def _spans(buffer: Buffer, span: _Span, number: int) -> Iterator[_Span]:
    """The contents of the fields with a number (messages, strings, bytes)."""
    for found, kind, _, start, end in fields(buffer, *span):
        if found == number and kind == LENGTH:
            yield start, end


def _text(buffer: Buffer, span: _Span, number: int) -> str:
    for start, end in _spans(buffer, span, number):
        return bytes(buffer[start : min(end, start + 4096)]).decode("utf-8")
    return ""


def _number(buffer: Buffer, span: _Span, number: int, default: int = 0) -> int:
    for found, kind, _, value, _ in fields(buffer, *span):
        if found == number and kind == VARINT:
            return value
    return default


def _read(buffer: Buffer) -> SavedModel | None:
    graphs = list(_spans(buffer, (0, len(buffer)), 2))
    tagged = []
    for graph in graphs:
        info = next(_spans(buffer, graph, 1), None)
        tags = [] if info is None else [bytes(buffer[a:b]).decode("utf-8") for a, b in _spans(buffer, info, 4)]
        tagged.append((graph, info, tags))
    if not tagged:
        return None
    graph, info, tags = next((item for item in tagged if "serve" in item[2]), tagged[0])
    found = SavedModel(tags=tuple(tags), version=_text(buffer, info, 5) if info else "")
    entries = {}
    for entry in _spans(buffer, graph, 5):
        name = _text(buffer, entry, 1)
        value = next(_spans(buffer, entry, 2), None)
        if value is not None and not name.startswith("__"):
            entries[name] = Signature(_tensors(buffer, value, 1), _tensors(buffer, value, 2))
    found.signatures = dict(sorted(entries.items()))
    for item, _, _ in tagged:  # whichever graph is loaded: none of them may run code
        _count_nodes(buffer, item, found, count=item == graph)
    return found


def _tensors(buffer: Buffer, signature: _Span, number: int) -> tuple[Tensor, ...]:
    found = []
    for entry in _spans(buffer, signature, number):
        info = next(_spans(buffer, entry, 2), None)
        if info is not None:
            dtype = _DTYPES.get(_number(buffer, info, 2) % 100)
            found.append(Tensor(_text(buffer, entry, 1), dtype, _shape(buffer, info), _text(buffer, info, 1)))
    return tuple(sorted(found, key=lambda item: natural(item.name)))


def _shape(buffer: Buffer, info: _Span) -> tuple[Dim, ...] | None:
    span = next(_spans(buffer, info, 3), None)
    if span is None or _number(buffer, span, 3):
        return None
    sizes = [_number(buffer, dim, 1) for dim in _spans(buffer, span, 2)]
    return tuple(size if size < 1 << 63 else None for size in sizes)


def _count_nodes(buffer: Buffer, graph: _Span, found: SavedModel, *, count: bool) -> None:
    """Count operators and note the dangerous ones; saving is dangerous where a signature can reach it."""
    definition = next(_spans(buffer, graph, 2), None)
    if definition is None:
        return
    seen = 0
    main: dict[str, tuple[str, list[str], list[str]]] = {}
    functions: dict[str, dict[str, tuple[str, list[str], list[str]]]] = {}
    for span in _spans(buffer, definition, 1):
        _note(main, buffer, span)
    for library in _spans(buffer, definition, 2):
        for function in _spans(buffer, library, 1):
            signature = next(_spans(buffer, function, 1), None)
            name = _text(buffer, signature, 1) if signature else ""
            body = functions.setdefault(name, {})
            for span in _spans(buffer, function, 3):
                _note(body, buffer, span)
    for where, body in [("", main), *functions.items()]:
        seen += len(body)
        if seen > MAX_NODES:
            raise ModelError("EDG112", f"the SavedModel has more than {MAX_NODES} nodes")
        for name, (operator, _, _) in body.items():
            if count:
                found.operators[operator] += 1
            if operator in RUNS_CODE or operator in REACHES_FILES:
                found.dangers.setdefault(operator, f"{where}/{name}" if where else name)
    for item in found.signatures.values():
        _note_reachable_saves(item, main, functions, found)


_Body = dict[str, tuple[str, list[str], list[str]]]


def _note_reachable_saves(signature: Signature, main: _Body, functions: dict[str, _Body], found: SavedModel) -> None:
    nodes = [tensor.source.split(":")[0] for tensor in signature.outputs]
    bodies: list[str] = []
    visited: set[str] = set()
    while nodes:
        name = nodes.pop()
        if name in visited or name not in main:
            continue
        visited.add(name)
        operator, inputs, called = main[name]
        if operator in SAVES:
            found.dangers.setdefault(operator, name)
        bodies += called
        nodes += inputs
    entered: set[str] = set()
    while bodies:
        function = bodies.pop()
        if function in entered:
            continue
        entered.add(function)
        for name, (operator, _, called) in functions.get(function, {}).items():
            if operator in SAVES:
                found.dangers.setdefault(operator, f"{function}/{name}")
            bodies += called


def _note(body: _Body, buffer: Buffer, node: _Span) -> None:
    """Name, operator, inputs (their nodes) and functions called of one node."""
    inputs = [bytes(buffer[a:b]).decode("utf-8").lstrip("^").split(":")[0] for a, b in _spans(buffer, node, 3)]
    called = []
    for attribute in _spans(buffer, node, 5):
        for value in _spans(buffer, attribute, 2):
            called += [_text(buffer, function, 1) for function in _spans(buffer, value, 10)]
            for several in _spans(buffer, value, 1):
                called += [_text(buffer, function, 1) for function in _spans(buffer, several, 9)]
    body[_text(buffer, node, 1)] = (_text(buffer, node, 2), inputs, called)
