"""Judge one case: check it, convert it, open the artifact, compare with the stored outputs, and name the outcome."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import onnx

from .cases import Case
from .opening import RUNTIMES, Arrays, LoadError, Opened, difference, open_onnx

#: Every outcome, best first.
OUTCOMES: Final = {
    "pass": "exit 0, loads, and computes the stored outputs",
    "random": "exit 0; the stored outputs come from a random generator, so values are not judged",
    "unsupported": "exit 4, naming the node",
    "refused-verify": "exit 1: edgec's own verification caught it and set the artifact aside",
    "refused-other": "refused with another exit code although ONNX Runtime reproduces the stored outputs",
    "reference": "not converted correctly, and ONNX Runtime itself cannot load it, run it or match the stored outputs",
    "wrong": "exit 0, but the outputs or the interface are not the stored ones",
    "noload": "exit 0, but the runtime does not load or run the artifact",
    "crash": "an internal error, a signal or the time limit",
    "disagree": "`check` and `convert` do not say the same",
}

#: Outcomes that may never occur.
FORBIDDEN: Final = ("wrong", "noload", "crash", "disagree")

Report = Callable[[str], None]


@dataclass
class Outcome:
    """What happened to one case."""

    key: str
    outcome: str
    code: str | None = None  # edgec's error code
    rules: list[str] = field(default_factory=list)  # rules that `check` names
    message: str = ""
    reference: str | None = None  # why ONNX Runtime does not reproduce the stored outputs
    stage: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if v not in (None, "", [])}


@dataclass(frozen=True)
class CheckVerdict:
    """What `check` says: ok, unsupported (by rules), uncertain, or an error with a code."""

    verdict: str
    rules: tuple[str, ...] = ()
    message: str = ""


class Refusal(Exception):
    """The tool refused to convert: its exit code, error code, rule names and message."""

    def __init__(self, exit_code: int, code: str, rules: set[str], message: str) -> None:
        super().__init__(message)
        self.exit_code, self.code, self.rules, self.message = exit_code, code, rules, message


class Compiler(Protocol):
    """What is under test: edgec for one target, or a stand-in that tests the suite itself."""

    runtime: str

    def check(self, model: Path, shapes: dict[str, tuple[int, ...]]) -> CheckVerdict: ...

    def convert(self, model: Path, output: Path, data: Path | None, shapes: dict[str, tuple[int, ...]]) -> Path:
        """The artifact; raises Refusal."""
        ...


class Edgec:
    """edgec, called through its Python API in this process."""

    def __init__(self, target: str) -> None:
        self.target = self.runtime = target

    def check(self, model: Path, shapes: dict[str, tuple[int, ...]]) -> CheckVerdict:
        import edgec
        from edgec.errors import EdgecError

        try:
            report = edgec.check(model, target=self.target, input_shapes=shapes or None)
        except EdgecError as error:
            if error.exit_code == 70:
                raise
            return CheckVerdict("error", (error.code,), error.message)
        nodes = [node for node in report.nodes if node.verdict != "ok"]
        bad = [node for node in nodes if node.verdict == "unsupported"]
        if bad:
            return CheckVerdict("unsupported", tuple(dict.fromkeys(str(n.rule) for n in bad)), str(bad[0].reason))
        return CheckVerdict("uncertain" if nodes else "ok")

    def convert(self, model: Path, output: Path, data: Path | None, shapes: dict[str, tuple[int, ...]]) -> Path:
        import edgec
        from edgec.errors import EdgecError

        try:
            result = edgec.convert(
                model, target=self.target, output=output, data=data, input_shapes=shapes or None, isolate=False
            )
        except EdgecError as error:
            if error.exit_code == 70:
                raise
            rules = {error.code, str(error.details.get("rule", error.code))}
            message = " ".join(text for text in (error.message, error.why) if text)
            raise Refusal(error.exit_code, error.code, rules, message) from error
        return Path(result.artifact)


class Identity:
    """A stand-in that hands the model itself to ONNX Runtime: it shows what the reference reproduces."""

    runtime = "onnxruntime"

    def check(self, model: Path, shapes: dict[str, tuple[int, ...]]) -> CheckVerdict:
        return CheckVerdict("ok")

    def convert(self, model: Path, output: Path, data: Path | None, shapes: dict[str, tuple[int, ...]]) -> Path:
        return model


def compiler(target: str) -> Compiler:
    """The compiler for a target name; "identity" is the stand-in."""
    return Identity() if target == "identity" else Edgec(target)


def judge(case: Case, compiler: Compiler, folder: Path, *, with_data: bool, stage: Report) -> Outcome:
    """Judge `case`, working in the empty `folder`.

    `stage` is told what is being done ("check", "convert", "open", "run", "reference"), so that whoever waits for this
    process knows what killed it.  Exceptions other than refusals are the caller's to record as a crash.
    """
    stage("prepare")
    model = folder / "model.onnx"
    onnx.save(case.model, model)
    data = folder / "data.npz" if with_data and case.data and case.data[0].inputs else None
    if data:
        write_arrays(data, case.data[0].inputs)
    shapes = {name: tuple(case.data[0].inputs[name].shape) for name in case.dynamic_inputs} if case.data else {}
    stage("check")
    verdict = compiler.check(model, shapes)
    stage("convert")
    outcome = Outcome(case.key, "pass", rules=list(verdict.rules))
    try:
        artifact = compiler.convert(model, folder / "out", data, shapes)
    except Refusal as refusal:
        outcome.code, outcome.message = refusal.code, refusal.message
        stage("reference")
        outcome.reference = reference(case, model)
        outcome.outcome = _refused(refusal, verdict, outcome)
        return outcome
    if verdict.verdict in ("unsupported", "error"):
        outcome.outcome = "disagree"
        outcome.message = f"check: {verdict.verdict} {', '.join(verdict.rules)} ({verdict.message}); convert: exit 0"
        return outcome
    stage("open")
    try:
        opened = RUNTIMES[compiler.runtime](artifact)
        stage("run")
        problem = run_and_compare(case, opened)
    except LoadError as error:
        outcome.outcome, outcome.message = "noload", str(error)
    except (RuntimeError, ValueError) as error:
        outcome.outcome, outcome.message = "noload", f"does not run: {error}"
    else:
        if case.random:
            outcome.outcome = "random"
        elif problem:
            outcome.outcome, outcome.message = "wrong", problem
    if outcome.outcome in ("wrong", "noload"):
        stage("reference")
        outcome.reference = reference(case, model)
        if outcome.reference:
            outcome.outcome = "reference"
    return outcome


def _refused(refusal: Refusal, verdict: CheckVerdict, outcome: Outcome) -> str:
    """The outcome of a refusal, given what `check` said before."""
    said = f"check: {verdict.verdict} {', '.join(verdict.rules)}"
    if refusal.exit_code == 4:
        agrees = verdict.verdict == "uncertain" or bool(refusal.rules & set(verdict.rules))
        if not agrees:
            outcome.message = f"{said}; convert: {refusal.code} {refusal.message}"
            return "disagree"
        return "reference" if outcome.reference else "unsupported"
    if outcome.reference:
        return "reference"
    if verdict.verdict == "unsupported" or (verdict.verdict == "error" and refusal.code not in verdict.rules):
        outcome.message = f"{said}; convert: exit {refusal.exit_code} {refusal.code} {refusal.message}"
        return "disagree"
    return "refused-verify" if refusal.exit_code == 1 else "refused-other"


def run_and_compare(case: Case, opened: Opened) -> str | None:
    """Feed every stored data set; the first difference from the stored outputs, or None."""
    for data in case.data:
        if opened.inputs != list(data.inputs):
            return f"inputs are {opened.inputs}, the model's are {list(data.inputs)}"
        problem = difference(opened.run(data.inputs), data.outputs)
        if problem:
            return problem
    return None


def reference(case: Case, model: Path) -> str | None:
    """Why ONNX Runtime does not reproduce the stored outputs of `model`, or None when it does."""
    try:
        return run_and_compare(case, open_onnx(model))
    except LoadError as error:
        return f"does not load: {error}"
    except (RuntimeError, ValueError) as error:
        return f"does not run: {error}"


def write_arrays(path: Path, arrays: Arrays) -> None:
    """An .npz file; unlike numpy.savez it takes any name."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
