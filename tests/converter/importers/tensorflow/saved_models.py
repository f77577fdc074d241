"""SavedModel folders made by hand, byte by byte, so that what is read before TensorFlow runs needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgec.converter.importers.onnx.wire import encode_varint, length_field

FLOAT = 1


def message(*fields: tuple[int, bytes | str | int]) -> bytes:
    """A protobuf message of fields (number, contents)."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts.append(encode_varint(number << 3) + encode_varint(value & (1 << 64) - 1))
        else:
            data = value.encode() if isinstance(value, str) else value
            parts.append(length_field(number, len(data)) + data)
    return b"".join(parts)


def tensor(source: str, shape: Sequence[int] | None, dtype: int = FLOAT) -> bytes:
    """A TensorInfo; None is an unknown rank, -1 an unknown extent."""
    dims = message((3, 1)) if shape is None else message(*((2, message((1, size))) for size in shape))
    return message((1, source), (2, dtype), (3, dims))


def node(name: str, operator: str, *inputs: str, calls: str = "") -> bytes:
    """A NodeDef; ``calls`` is the function that its attribute ``f`` names."""
    fields: list[tuple[int, bytes | str | int]] = [(1, name), (2, operator), *((3, item) for item in inputs)]
    if calls:
        fields.append((5, message((1, "f"), (2, message((10, message((1, calls))))))))
    return message(*fields)


def function(name: str, *nodes: bytes) -> bytes:
    """A FunctionDef."""
    return message((1, message((1, name))), *((3, item) for item in nodes))


def signature(inputs: Mapping[str, bytes], outputs: Mapping[str, bytes]) -> bytes:
    """A SignatureDef."""
    entries = [
        (number, message((1, name), (2, info)))
        for number, ports in ((1, inputs), (2, outputs))
        for name, info in ports.items()
    ]
    return message(*entries)


def saved_model(
    folder: Path,
    signatures: Mapping[str, bytes],
    nodes: Sequence[bytes] = (),
    functions: Sequence[bytes] = (),
    tags: Sequence[str] = ("serve",),
) -> Path:
    """Write a folder with a saved_model.pb."""
    library = message(*((1, item) for item in functions))
    graph = message(*((1, item) for item in nodes), (2, library))
    info = message(*((4, tag) for tag in tags), (5, "2.21.0"))
    entries = [(5, message((1, name), (2, value))) for name, value in signatures.items()]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "saved_model.pb").write_bytes(message((1, 1), (2, message((1, info), (2, graph), *entries))))
    return folder


def identity_model(folder: Path, *more: bytes, functions: Sequence[bytes] = ()) -> Path:
    """A SavedModel that hands its input ``x`` [-1,4] through; ``more`` are further nodes."""
    served = signature({"x": tensor("serving_x:0", (-1, 4))}, {"y": tensor("call:0", (-1, 4))})
    nodes = [node("serving_x", "Placeholder"), node("call", "StatefulPartitionedCall", "serving_x", calls="inner")]
    own = function("inner", node("y", "Identity", "x"))
    return saved_model(folder, {"serving_default": served}, [*nodes, *more], [own, *functions])
