"""The LiteRT (TensorFlow Lite) target: a flatbuffer written directly, no TensorFlow involved."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from edgec.errors import UnsupportedError
from edgec.ir.graph import Model
from edgec.targets.base import Artifact, Finding, Lowered, Refusal, SessionSpec, Target, TargetOptions


class TFLite(Target):
    """LiteRT flatbuffers for the CPU (XNNPACK) and for everything that starts from them."""

    name = "tflite"
    title = "LiteRT (TensorFlow Lite)"
    suffix = ".tflite"
    static_shapes = True
    pipeline = "fold-constants"

    def refusals(self, model: Model, options: TargetOptions) -> list[Refusal]:
        """Every node that :meth:`lower` would refuse: the same walk, without writing."""
        from edgec.targets.tflite.lowering import Lowerer

        lowerer = Lowerer(model.graph, options.io_layout)
        lowerer.run()
        return lowerer.refusals

    def lower(self, model: Model, options: TargetOptions) -> Lowered:
        """The program of a canonical model, transposes minimised, activations fused.

        Raises:
            UnsupportedError: nodes that LiteRT cannot hold; all of them are in ``details["refusals"]``.
        """
        from edgec.targets.tflite.lowering import Lowerer
        from edgec.targets.tflite.peephole import tidy

        lowerer = Lowerer(model.graph, options.io_layout)
        program = lowerer.run()
        if lowerer.refusals:
            raise refused(lowerer.refusals, self.title)
        tidy(program)
        return Lowered(program, list(lowerer.notes), dict(lowerer.layouts))

    def compile(self, lowered: Lowered, folder: Path, stem: str) -> Artifact:
        """Write ``stem.tflite``."""
        from edgec.targets.tflite.writer import write

        path = folder / f"{stem}{self.suffix}"
        write(lowered.payload, path, "edgec")
        return Artifact(path)

    def session(self, artifact: Path, threads: int = 1) -> SessionSpec:
        """LiteRT's CPU interpreter."""
        return SessionSpec("edgec.targets.tflite.session:open_session", {"threads": threads})

    def inspect(self, artifact: Path) -> dict[str, Any]:
        """Operators, tensors and sizes, read from the flatbuffer."""
        from edgec.targets.tflite.reader import inspect

        return inspect(artifact)

    def doctor(self) -> list[Finding]:
        """Whether the LiteRT runtime is installed."""
        try:
            version = metadata.version("ai-edge-litert")
        except metadata.PackageNotFoundError:
            return [Finding("ai-edge-litert", False, "not installed", "pip install ai-edge-litert")]
        return [Finding("ai-edge-litert", True, version)]


def refused(refusals: Sequence[Refusal], title: str) -> UnsupportedError:
    """The error for a model with nodes that the target cannot hold; its first refusal leads."""
    first = refusals[0]
    others = len(refusals) - 1
    where = f"node '{first.node}' ({first.operator})"
    if others:
        where += f" and {others} more; `edgec check` lists them all"
    return UnsupportedError(
        first.rule,
        f"cannot convert '{first.node}' ({first.operator}) to {title}",
        where=where,
        why=first.reason,
        help=first.help or None,
        details={
            "refusals": [
                {
                    "node": refusal.node,
                    "operator": refusal.operator,
                    "sources": list(refusal.sources),
                    "rule": refusal.rule,
                    "reason": refusal.reason,
                    "help": refusal.help,
                }
                for refusal in refusals
            ]
        },
    )


TARGET = TFLite()
