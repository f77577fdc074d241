"""What a verification found, as the manifest and ``--json`` hold it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from edgec.converter.verification.metrics import Difference, short
from edgec.errors import VerificationError

CHANNELS = 256
"""Most channels whose errors are listed one by one."""

PASSED = "passed"
FAILED = "failed"
CONSTANT = "constant"
"""Compared by value; the output does not depend on the inputs."""
UNVERIFIED = "unverified"
"""The same number for every input that was tried, so that equality proves nothing."""


AFTER_INTEGERS: Final = (
    "more typical samples in --calibration, another --method (percentile, mse), or --precision mixed, which gives more "
    "bits to what loses too much (tflite, onnxruntime and ethosu); edgec bisect shows where"
)
"""What to do when integers lose too much."""


@dataclass(frozen=True)
class InputReport:
    """How one input was filled."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    values: str

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape), "values": self.values}


@dataclass(frozen=True)
class OutputReport:
    """How far one output is from the reference.

    Attributes:
        status: ``passed``, ``failed``, ``constant`` or ``unverified``.
        why: in words, what decided.
        floor: relative L2 of ONNX Runtime with all optimisations against none, or None where it could not be had, or
            the output is judged without.
        threshold: relative L2 (or with ``int8`` precision SQNR in dB) that decides; None for integer outputs.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    status: str
    why: str
    difference: Difference
    floor: float | None
    threshold: float | None

    def to_json(self) -> dict[str, Any]:
        difference = self.difference
        worst = difference.worst_channel
        channels = difference.channels
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "status": self.status,
            "why": self.why,
            "max_abs": short(difference.max_abs),
            "max_rel": short(difference.max_rel),
            "relative_l2": short(difference.relative_l2),
            "sqnr_db": short(difference.sqnr_db),
            "equal_fraction": short(difference.equal_fraction),
            "argmax_agreement": short(difference.argmax_agreement),
            "worst_channel": None if worst is None else {"index": worst[0], "relative_l2": short(worst[1])},
            "channels": None
            if channels is None or len(channels) > CHANNELS
            else [short(float(error)) for error in channels],
            "floor": short(self.floor),
            "threshold": short(self.threshold),
        }


@dataclass
class VerificationReport:
    """The result of comparing an artifact with the original model.

    Attributes:
        precision: ``float32``, ``float16`` or ``int8``: which threshold was used.
        levels: verification level (see the design) to ``passed`` or ``failed``; levels that were not tried are absent.
        samples: how many inputs were compared.
        seed: of the random inputs, None with data.
        interface: what of names, order, dtypes and shapes differs; empty when nothing does.
    """

    precision: str
    samples: int
    seed: int | None
    reference: dict[str, str]
    inputs: list[InputReport] = field(default_factory=list)
    outputs: list[OutputReport] = field(default_factory=list)
    interface: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    levels: dict[str, str] = field(default_factory=dict)

    @property
    def code(self) -> str | None:
        """The error code that the findings amount to, None when the artifact is verified."""
        if self.interface:
            return "EDG304"
        if any(output.status == FAILED for output in self.outputs):
            return "EDG301"
        if self.outputs and all(output.status == UNVERIFIED for output in self.outputs):
            return "EDG305"
        return None

    @property
    def passed(self) -> bool:
        """Whether the artifact is verified."""
        return self.code is None

    def to_json(self) -> dict[str, Any]:
        """The ``verification`` member of manifests and documents."""
        return {
            "passed": self.passed,
            "code": self.code,
            "levels": dict(self.levels),
            "precision": self.precision,
            "samples": self.samples,
            "seed": self.seed,
            "reference": dict(self.reference),
            "inputs": [item.to_json() for item in self.inputs],
            "outputs": [item.to_json() for item in self.outputs],
            "interface": list(self.interface),
            "notes": list(self.notes),
        }

    def raise_for_failure(self) -> None:
        """Do nothing when the artifact is verified.

        Raises:
            VerificationError: EDG301, EDG304 or EDG305 with the report in ``details["verification"]``.
        """
        code = self.code
        if code is None:
            return
        details = {"verification": self.to_json()}
        if code == "EDG304":
            raise VerificationError(
                code,
                "the artifact's inputs or outputs are not the model's",
                why="; ".join(self.interface),
                details=details,
            )
        if code == "EDG305":
            raise VerificationError(
                code,
                "no output could be verified",
                why="; ".join(f"'{output.name}': {output.why}" for output in self.outputs[:4]),
                help="give real inputs with --data, or ranges with --range NAME:low,high",
                details=details,
            )
        failed = [output for output in self.outputs if output.status == FAILED]
        raise VerificationError(
            code,
            f"{len(failed)} of {len(self.outputs)} outputs differ from the original model",
            why="; ".join(f"'{output.name}': {output.why}" for output in failed[:4]),
            help=AFTER_INTEGERS if self.precision == "int8" and code == "EDG301" else None,
            details=details,
        )
