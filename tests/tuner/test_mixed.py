"""Mixed precision as a knob: how much of the quality an artifact may lose decides, node by node, what stays float."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgec.targets.knobs import Knob, Knobs, Part
from edgec.tuner.conversions import FOLDER, OWNER
from edgec.tuner.measurements import Race
from edgec.tuner.replay import Replay
from edgec.tuner.search import Budget
from edgec.tuner.space import Space, key_of, make_space
from edgec.tuner.study import tune
from edgec.tuner.trials import SAME, UNREACHABLE, State, TrialFailed
from tests.command import DIGIT_SAMPLES, DIGITS, edgec

from .quick import QUICK
from .synthetic import opened, searching

LEVELS = (0.001, 0.002, 0.004, 0.008)


def space() -> Space:
    precisions = ("float32", "int8", "mixed")
    return make_space(
        Knobs(
            (
                Knob("precision", Part.PRECISION, precisions, "float32"),
                Knob("mixed_drop", Part.QUALITY, LEVELS, LEVELS[-1], when={"precision": ("mixed",)}, leniency=1),
                Knob("threads", Part.SESSION, (1, 2), 1),
            )
        ),
        {},
        {},
    )


class Converting(Replay):
    """Conversions that cannot keep less than a level, and mixed artifacts that are those of other levels."""

    unreachable = 0.0
    same: tuple[float, ...] = ()

    def drop(self, configuration: Any) -> float | None:
        level = configuration.get("mixed_drop")
        part = {name: configuration[name] for name in ("precision", "mixed_drop") if name in configuration}
        if level is not None and level <= self.unreachable:
            self.asked.append(f"convert {level}")
            raise TrialFailed(UNREACHABLE, "EDG038: the loss stays above", part)
        if level in self.same:
            self.asked.append(f"convert {level}")
            raise TrialFailed(SAME, "the artifact is that of another", part)
        return None

    @contextlib.contextmanager
    def race(self, configuration: Any, *, against: Any = None, fresh: bool = False) -> Iterator[Race]:
        with super().race(configuration, against=against, fresh=fresh) as race:
            yield race


def rows(of: Space) -> dict[str, list[float]]:
    assert of.points is not None
    return {key_of(point): [10.0 / int(point["threads"] or 1)] * 3 for point in of.points}


def test_a_loss_that_cannot_be_kept_rules_out_all_smaller_ones(tmp_path: Path) -> None:
    of = space()
    measurements = Converting(rows(of))
    measurements.unreachable = 0.004
    with opened(tmp_path, of) as journal:
        search = searching(journal, of, measurements)
        assert search.run(Budget()) == "exhausted"
    tried = [float(item.split()[1]) for item in measurements.asked if item.startswith("convert")]
    assert tried == sorted(set(tried)), "only a larger one is tried after one that failed, and each once"
    failed = [trial for trial in search.trials if trial.state is State.FAILED]
    assert {trial.reason for trial in failed} == {"EDG038: the loss stays above"}
    assert sum(trial.configuration.get("mixed_drop") == 0.008 for trial in search.trials) == 2


def test_an_artifact_that_another_configuration_has_is_not_measured_again(tmp_path: Path) -> None:
    of = space()
    measurements = Converting(rows(of))
    measurements.same = (0.002, 0.008)
    with opened(tmp_path, of) as journal:
        search = searching(journal, of, measurements)
        search.run(Budget())
    for level in measurements.same:
        assert measurements.asked.count(f"convert {level}") == 1
        (trial,) = [trial for trial in search.trials if trial.configuration.get("mixed_drop") == level]
        assert trial.state is State.PRUNED
        assert trial.reason == "the artifact is that of another"


@pytest.mark.parametrize("target", ["tflite", "onnxruntime"])
def test_a_study_converts_once_per_level_and_measures_no_artifact_twice(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEC_LEASES", str(tmp_path / "leases"))
    single: dict[str, tuple[Any, ...]] = {"threads": (1,), "precision": ("float32", "int8", "mixed")}
    if target == "tflite":
        single.update(api=("interpreter",), xnnpack=(True,))
    else:
        single.update(execution_mode=("sequential",), optimise=("all",), arena=(True,), memory_pattern=(False,))
        single.update(arena_extend=(None,))
    result = tune(
        DIGITS,
        target=target,
        output=tmp_path / "study",
        max_drop=0.2,
        calibration=DIGIT_SAMPLES,
        knobs=single,
        trials=20,
        rules=QUICK,
    )
    assert result.finish is not None and result.finish["why"] == "exhausted"
    folders = [folder for folder in (tmp_path / "study" / FOLDER).iterdir() if folder.is_dir()]
    assert len(folders) == 5
    notes = [json.loads((folder / OWNER).read_text(encoding="utf-8")) for folder in folders]
    own = [note["sha256"] for note in notes if note["same"] is None]
    assert len(set(own)) == len(own)
    told = [trial for trial in result.trials if (trial.reason or "").startswith("the artifact is that of ")]
    assert len(told) == len(folders) - len(own)
    assert all(trial.state is State.PRUNED and not trial.blocks for trial in told)
    measured = [trial for trial in result.trials if trial.blocks or trial.number == 0]
    assert len(measured) <= len(own), "one that loses too much, or is unstable on a busy machine, has no blocks"
    for trial in result.trials:
        mixed = trial.configuration["precision"] == "mixed"
        assert ("mixed_drop" in trial.configuration) == mixed
        if trial in measured and mixed:
            assert trial.values["drop"] <= 0.2
            assert trial.values["raised_nodes"] >= 0


def test_the_winner_is_converted_anew_to_the_same_bytes(tmp_path: Path) -> None:
    """With mixed precision as the only one, the winner is mixed, and its loss goes with it."""
    leases = str(tmp_path / "leases")
    common = ["-t", "tflite", "--calibration", DIGIT_SAMPLES]
    study = tmp_path / "study"
    tuned = edgec(
        "tune", DIGITS, *common, "--precision", "mixed", "--max-drop", "8%", "--knob", "precision=mixed", "-o", study,
        "--knob", "mixed_drop=0.002,0.05", "--knob", "threads=1", "--knob", "api=interpreter", "--trials", "4",
        "--json", timeout=600, EDGEC_LEASES=leases,
    )  # fmt: skip
    assert tuned.code == 0, tuned.stderr
    winner = tuned.document["winner"]
    assert winner["configuration"]["precision"] == "mixed"
    applied = edgec("tune", "apply", study, "-o", tmp_path / "applied", "--json")
    assert applied.code == 0, applied.stderr
    again = edgec("convert", DIGITS, *common, "--tuned", study, "-o", tmp_path / "again", "--json", timeout=600)
    assert again.code == 0, again.stderr
    first, second = (
        json.loads((tmp_path / name / "manifest.json").read_text(encoding="utf-8")) for name in ("applied", "again")
    )
    assert first["artifact"]["sha256"] == second["artifact"]["sha256"]
    assert second["quantization"]["mixed"]["max_drop"] == winner["configuration"]["mixed_drop"]
    refused = edgec("convert", DIGITS, *common, "--tuned", study, "--max-drop", "1%", "-o", tmp_path / "no", "--json")
    assert refused.document["error"]["code"] == "EDG001"
