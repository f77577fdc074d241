"""``edgec.load``: the artifact of a conversion, ready to run.

with edgec.load("out/", threads=2) as model:
    outputs = model.run({"image": array})
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from edgec.errors import UsageError, VerificationError
from edgec.ir.quantization import Affine
from edgec.ir.types import Array, DataType
from edgec.runtime.isolation import DEFAULT_TIMEOUT_S, open_isolated
from edgec.runtime.session import Assignment, BindableSession, Binding, Pool, Session, TensorSpec
from edgec.targets import registry
from edgec.targets.base import SessionSpec

MANIFEST = "manifest.json"


class LoadedArtifact:
    """An artifact that runs; a context manager.

    Several threads may call :meth:`run`, see :class:`edgec.runtime.session.Session`.

    Attributes:
        path: the artifact's file.
        target: the name of its target.
        manifest: what the conversion wrote of it.
        inputs, outputs: name, dtype and shape of each, as the artifact has them; unknown extents are names or None.
        quantized_io: input or output name to how the artifact's numbers stand for the model's floats.
        layouts: input or output name to the permutation that the conversion applied to the model's axes.
        options: the options of its session that were given, here or by tuning.
    """

    def __init__(
        self, path: Path, manifest: Mapping[str, Any], session: Session, options: Mapping[str, Any] | None = None
    ):
        self.path = path
        self.options = dict(options or {})
        self.manifest = manifest
        self.target: str = manifest["target"]
        self.inputs: tuple[TensorSpec, ...] = session.inputs
        self.outputs: tuple[TensorSpec, ...] = session.outputs
        self.quantized_io = _quantized_io(manifest)
        self.layouts = {name: tuple(axes) for name, axes in manifest.get("layouts", {}).items()}
        self._session = session

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name for one array per input, both as the artifact has them; see :meth:`quantize` for floats.

        Raises:
            UsageError: EDG002 for a name that is no input, EDG005 for an input that is missing or has another dtype or
                shape.
            VerificationError: EDG303 when the runtime reports an error.
        """
        return self._session.run(self._checked(feeds))

    def bind(self, pool: Pool | None = None, shapes: Mapping[str, Sequence[int]] | None = None) -> Binding:
        """Inputs and outputs at fixed places; see :meth:`edgec.runtime.session.BindableSession.bind`.

        Raises:
            UsageError: EDG040 for an artifact in a process of its own, whose memory cannot be shared.
        """
        bind = getattr(self._session, "bind", None)
        if bind is None:
            raise UsageError("EDG040", "buffers cannot be bound in a process of its own", help="leave isolated out")
        session: BindableSession = self._session  # type: ignore[assignment]
        return session.bind(pool, shapes)

    def quantize(self, name: str, array: Array) -> Array:
        """Real numbers as the input of this name takes them; unchanged where it takes real numbers."""
        held = self.quantized_io.get(name)
        return array if held is None else held.quantized(array)

    def dequantize(self, name: str, array: Array) -> Array:
        """The real numbers, float32, that the output of this name stands for; unchanged where it holds real numbers."""
        held = self.quantized_io.get(name)
        return array if held is None else held.real(array)

    def assignment(self) -> Assignment | None:
        """Which operators run on the delegate, accelerator or execution provider; None where all are the CPU's."""
        ask = getattr(self._session, "assignment", None)
        found: Assignment | None = None if ask is None else ask()
        return found

    def close(self) -> None:
        """Release the artifact, its memory and its threads, or its process."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _checked(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        specs = {spec.name: spec for spec in self.inputs}
        listed = ", ".join(f"{spec.name}: {spec.dtype} {_text(spec.shape)}" for spec in self.inputs)
        for name in feeds:
            if name not in specs:
                raise UsageError("EDG002", f"'{name}' is no input", where=f"inputs: {listed}")
        found: dict[str, Array] = {}
        for name, spec in specs.items():
            if name not in feeds:
                raise UsageError("EDG005", f"there is no array for the input '{name}'", where=f"inputs: {listed}")
            array = np.asarray(feeds[name])
            if array.dtype != spec.dtype and not (spec.dtype == object and array.dtype.kind in "US"):
                held = name in self.quantized_io and array.dtype == np.float32
                raise UsageError(
                    "EDG005",
                    f"the array for '{name}' is {array.dtype}, the input is {spec.dtype}",
                    help=f"model.quantize('{name}', array)" if held else f"array.astype('{spec.dtype}')",
                )
            if array.ndim != len(spec.shape) or any(
                isinstance(dim, int) and dim != extent for dim, extent in zip(spec.shape, array.shape)
            ):
                raise UsageError(
                    "EDG005",
                    f"the array for '{name}' has shape {_text(array.shape)}, the input has {_text(spec.shape)}",
                    why=f"the conversion permuted the model's axes by {list(self.layouts[name])}"
                    if name in self.layouts
                    else None,
                )
            found[name] = array
        return found


def load(
    folder: str | Path,
    *,
    isolated: bool = False,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    memory_limit: int | None = None,
    **options: Any,
) -> LoadedArtifact:
    """Load the artifact that a conversion left in a folder, after checking that it is the one it wrote.

    Args:
        folder: with ``manifest.json`` in it.
        isolated: run it in a process of its own, so that a crash of the runtime is an error and not the end.
        timeout_s: longest time that loading, or a run, may take there, seconds.
        memory_limit: bytes of address space that the process may use, None for no limit.
        options: of the session; for the target ``onnxruntime`` those of
            :class:`edgec.runtime.onnxruntime.options.Options`, for ``tflite`` those of
            :class:`edgec.targets.tflite.options.Options`.  They go before those that tuning found.

    Raises:
        VerificationError: EDG306 where the artifact or a file beside it is missing or has changed, or the manifest
            cannot be read; EDG302 when the runtime refuses it.
        UsageError: EDG017 where there is no folder or no manifest in it; EDG040 for an option that the target's session
            does not have, or a value that it does not take.
        EdgecError: EDG521 for a target whose device is not on this machine; EDG520, EDG522 and EDG523 for delegates,
            accelerators and execution providers.
    """
    manifest, artifact, spec = locate(folder)
    tuned = manifest.get("tuned", {}).get("session", {})
    given = {**spec.options, **tuned, **options}
    if isolated:
        try:
            session: Session = open_isolated(
                spec.factory, artifact, given, timeout_s=timeout_s, memory_limit=memory_limit
            )
        except VerificationError as error:
            if "unexpected keyword argument" in error.message:
                raise UsageError(
                    "EDG040", f"{manifest['target']} has no such session option", why=error.message
                ) from error
            raise
    else:
        session = _open(spec, artifact, given, manifest["target"])
    return LoadedArtifact(artifact, manifest, session, given)


def locate(folder: str | Path) -> tuple[dict[str, Any], Path, SessionSpec]:
    """The manifest, the artifact's file and how it is opened, after checking that the files are those of the manifest.

    An artifact that ``edgec tune apply`` wrote is opened with the options that were found for it.

    Raises:
        UsageError: EDG017 where there is no folder or no manifest in it.
        VerificationError: EDG306 where the artifact or a file beside it is missing or has changed.
        EdgecError: EDG521 for a target whose device is not on this machine.
    """
    root = Path(folder)
    manifest = read_manifest(root)
    artifact = root / Path(manifest["artifact"]["path"]).name
    for entry in (manifest["artifact"], *manifest["sidecars"]):
        _check_file(root, entry)
    spec = registry.load(manifest["target"]).session(artifact)
    tuned = manifest.get("tuned", {}).get("session", {})
    return manifest, artifact, SessionSpec(spec.factory, {**spec.options, **tuned})


def read_manifest(root: Path) -> dict[str, Any]:
    """The ``manifest.json`` of a conversion's folder.

    Raises:
        UsageError: EDG017 where there is no such folder, or no manifest in it.
        VerificationError: EDG306 where it cannot be read.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise _no_manifest(root)
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        manifest["artifact"]["path"], manifest["artifact"]["sha256"], manifest["target"]
        [(entry["path"], entry["sha256"]) for entry in manifest["sidecars"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable(root, error) from error
    found: dict[str, Any] = manifest
    return found


def unreadable(root: Path, error: Exception) -> VerificationError:
    """EDG306: the folder's manifest is not one that a conversion wrote."""
    return VerificationError(
        "EDG306",
        f"'{root / MANIFEST}' is no manifest of a conversion",
        why=f"{type(error).__name__}: {error}",
        help="convert the model again",
    )


def _no_manifest(root: Path) -> UsageError:
    if root.is_file():
        what, why, help = f"'{root}' is a file", None, f"give its folder: '{root.parent}'"
    elif not root.is_dir():
        what, why, help = f"there is no folder '{root}'", None, "give the folder of edgec convert"
    else:
        what, why, help = f"'{root}' holds no {MANIFEST}", None, "give the folder of edgec convert"
        plans = sorted(item.name for item in root.glob("*.plan.json"))
        if plans:
            why = f"the conversion ended before the vendor's tool: '{plans[0]}' says what is missing"
            help = "install it and convert again"
    return UsageError("EDG017", what, why=why, help=help)


def _check_file(root: Path, entry: Mapping[str, Any]) -> None:
    path = root / Path(entry["path"]).name
    if not path.is_file():
        raise VerificationError("EDG306", f"'{path.name}' is not there", where=f"folder '{root}'")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
            raise VerificationError(
                "EDG306",
                f"'{path.name}' has changed since it was written",
                where=f"folder '{root}'",
                help="convert the model again",
            )


def _open(spec: SessionSpec, artifact: Path, options: Mapping[str, Any], target: str) -> Session:
    module, _, function = spec.factory.partition(":")
    factory = getattr(importlib.import_module(module), function)
    try:
        inspect.signature(factory).bind(artifact, **options)
    except TypeError as error:
        raise _unknown(target, str(error)) from error
    session: Session = factory(artifact, **options)
    return session


def _unknown(target: str, why: str) -> UsageError:
    return UsageError("EDG040", f"{target} has no such session option", why=why)


def _quantized_io(manifest: Mapping[str, Any]) -> dict[str, Affine]:
    listed = manifest.get("quantization", {}).get("quantized_io", {})
    return {
        name: Affine(DataType[item["dtype"].upper()], float(item["scale"]), int(item["zero_point"]))
        for name, item in listed.items()
    }


def _text(shape: Sequence[int | str | None]) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"
