"""``edgec.bench``: what is measured, what is said of it, and what is kept."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgec.execution.bench as module
from edgec.errors import EdgecError
from edgec.execution.bench import bench
from edgec.execution.measure import RowStatus
from edgec.runtime.lease import device_of, lease
from edgec.runtime.measurement import Floor, Verdict
from edgec.runtime.measurement.floor import cached_floor
from edgec.targets.base import SessionSpec
from tests.command import DIGITS
from tests.schemas import validate


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGEC_LEASES", str(tmp_path / "leases"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    import edgec

    folder = tmp_path_factory.mktemp("digits") / "out"
    edgec.convert(DIGITS, target="onnxruntime", output=folder)
    yield folder


@pytest.fixture
def sleepers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose subfolders are artifacts that sleep as many milliseconds as their name says."""

    def locate(folder: str | Path) -> tuple[dict[str, Any], Path, SessionSpec]:
        Path(folder).mkdir(exist_ok=True)
        manifest = {"target": "onnxruntime", "artifact": {"sha256": "0" * 64}, "versions": {}, "verification": None}
        manifest["verification"] = {"inputs": [{"name": "x", "shape": [1, 2]}]}  # type: ignore[assignment]
        return manifest, Path(folder), SessionSpec("tests.runtime.factories:open_sleeper", {})

    monkeypatch.setattr(module, "locate", locate)
    monkeypatch.setattr(module, "measure_floor", lambda opener, *, key, rules: Floor(0.02, (1.0,), 0.0, key))
    return tmp_path


def test_a_real_artifact_is_measured_and_kept(digits: Path) -> None:
    result = bench(digits, threads=(1, 2), budget_s=3.0)
    assert [row.threads for row in result.rows] == [1, 2]
    row = result.rows[0]
    assert row.latency is not None and 0 < row.latency.median.low <= row.latency.median.value < 1
    assert row.throughput == pytest.approx(1 / row.latency.median.value)
    assert row.memory is not None and row.memory.added > 0
    assert row.cold_start_s is not None and row.load_s is not None and row.cold_start_s > row.load_s
    validate(result.to_json())
    lines = [json.loads(line) for line in (digits / "measurements.jsonl").read_text().splitlines()]
    assert [line["threads"] for line in lines] == [1, 2]
    for line in lines:
        validate(line)
    manifest = json.loads((digits / "manifest.json").read_text())
    assert lines[0]["artifact"] == manifest["artifact"]["sha256"]
    bench(digits, budget_s=1.0)
    assert len((digits / "measurements.jsonl").read_text().splitlines()) == 3


def test_a_batch_that_the_artifact_does_not_have_is_said(digits: Path) -> None:
    result = bench(digits, batches=(8,), budget_s=1.0, record=False)
    assert result.rows[0].status is RowStatus.UNSUPPORTED
    assert "the batch of 'x' is 1, not 8" in result.rows[0].reasons[0]
    assert "--batch 8" in result.rows[0].reasons[0]
    assert result.exit_code == 4
    validate(result.to_json())


def test_a_dynamic_artifact_takes_every_batch(sleepers: Path) -> None:
    result = bench(sleepers / "1", batches=(1, 8), budget_s=2.0)
    assert [row.samples for row in result.rows] == [1, 8]
    one, eight = result.rows
    assert one.latency is not None and one.throughput == pytest.approx(1 / one.latency.median.value)
    assert eight.latency is not None and eight.throughput == pytest.approx(8 / eight.latency.median.value)


def test_two_artifacts_are_compared(sleepers: Path) -> None:
    result = bench(sleepers / "2", versus=sleepers / "60", budget_s=6.0)  # so far apart that no load hides it
    (comparison,) = result.comparisons
    assert comparison.estimate is not None
    assert comparison.estimate.verdict is Verdict.CANDIDATE
    assert comparison.estimate.ratio < 0.7
    assert comparison.estimate.floor == 0.02
    validate(result.to_json())
    assert all((sleepers / name / "measurements.jsonl").exists() for name in ("2", "60"))


def test_a_kept_floor_is_used_again(sleepers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []

    def measured(opener: object, *, key: str, rules: object) -> Floor:
        import time

        keys.append(key)
        return Floor(0.03, (1.0,), time.time(), key)

    monkeypatch.setattr(module, "measure_floor", measured)
    for _ in range(2):
        result = bench(sleepers / "2", versus=sleepers / "4", budget_s=2.0)
        assert result.comparisons[0].estimate is not None and result.comparisons[0].estimate.floor == 0.03
    assert len(keys) == 1 and cached_floor(keys[0]) is not None


def test_a_crash_is_a_failed_setting_with_its_reason(sleepers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    located = module.locate

    def locate(folder: str | Path) -> tuple[dict[str, Any], Path, SessionSpec]:
        manifest, path, _ = located(folder)
        return manifest, path, SessionSpec("tests.runtime.factories:open_session", {})

    monkeypatch.setattr(module, "locate", locate)
    result = bench(sleepers / "segfault", versus=sleepers / "echo", budget_s=2.0)
    assert result.rows[0].status is RowStatus.FAILED and "SIGSEGV" in result.rows[0].reasons[0]
    assert result.other_rows[0].status in (RowStatus.OK, RowStatus.UNSTABLE)
    assert result.comparisons[0].estimate is None and "SIGSEGV" in result.comparisons[0].reason
    assert result.exit_code == 1
    validate(result.to_json())


def test_an_unstable_number_ends_with_7(sleepers: Path) -> None:
    result = bench(sleepers / "restless", budget_s=1.5)
    assert result.rows[0].status is RowStatus.UNSTABLE and result.rows[0].code == "EDG702"
    assert result.rows[0].reasons
    assert result.exit_code == 7 and result.to_json()["status"] == "unstable"


def test_samples_of_the_user_fill_the_batch(sleepers: Path) -> None:
    samples = [{"x": np.full((1, 2), value, np.float32)} for value in (1, 2, 3)]
    made = module.Samples(2, None, samples).make(_specs((None, 2)))
    assert [feed["x"][:, 0].tolist() for feed in made] == [[1, 2], [3, 1]]
    made = module.Samples(None, None, [{"x": np.arange(4, dtype=np.float32).reshape(2, 2)}]).make(_specs((None, 2)))
    assert len(made) == 2 and made[0]["x"].shape == (1, 2)
    made = module.Samples(None, None, [{"x": np.zeros(2, np.float32)}]).make(_specs((1, 2)))
    assert made[0]["x"].shape == (1, 2)


def test_random_samples_fit_their_inputs() -> None:
    specs = _specs(("n", "length"), np.int64) + _specs((1, 4), np.int8) + _specs((3,), np.bool_)
    specs = tuple(type(spec)(f"i{at}", spec.dtype, spec.shape) for at, spec in enumerate(specs))
    (feed,) = module.Samples(None, {"i0": (1, 7)}).make(specs)
    assert feed["i0"].shape == (1, 7) and set(feed["i0"].ravel()) <= {0, 1}
    assert feed["i1"].dtype == np.int8 and feed["i2"].dtype == np.bool_
    again = module.Samples(None, {"i0": (1, 7)}).make(specs)
    assert all((again[0][name] == feed[name]).all() for name in feed)


@pytest.mark.parametrize("shape", [(1, 3), (2, 2), (1,), (1, 2, 1)])
def test_a_shape_that_the_artifact_does_not_have_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(EdgecError, match="cannot have the shape") as caught:
        module.Samples(wanted={"x": shape}).make(_specs((1, 2)))
    assert caught.value.code == "EDG005" and "1,2" in str(caught.value.why)
    (feed,) = module.Samples(None, {"x": (4, 9)}, wanted={"x": (4, 2)}).make(_specs((None, 2)))
    assert feed["x"].shape == (4, 2)


def test_a_shape_of_no_input_is_refused_before_anything_is_measured(sleepers: Path) -> None:
    with pytest.raises(EdgecError, match="'z' is no input") as caught:
        bench(sleepers / "1", input_shapes={"z": (1, 2)}, budget_s=1.0)
    assert caught.value.code == "EDG002" and "inputs: x" in str(caught.value.where)


def test_artifacts_of_different_models_are_compared_with_a_note() -> None:
    notes: list[str] = []
    artifact = module._Artifact
    sides = [artifact(Path(name), {"source": {"name": name, "sha256": name}}, Path(name), None) for name in "ab"]  # type: ignore[arg-type]
    module._check_sources(sides, notes)
    assert notes == ["they were made from different models, 'a' and 'b': the ratio compares these too"]
    module._check_sources([sides[0], sides[0]], notes)
    assert len(notes) == 1


def test_an_open_extent_that_nobody_gives_is_an_error() -> None:
    with pytest.raises(EdgecError, match="extent 1 of 'x' is open") as raised:
        module.Samples().make(_specs((1, None)))
    assert raised.value.code == "EDG202" and "--input-shape x:1,N" in (raised.value.help or "")


def _specs(shape: tuple[int | str | None, ...], dtype: Any = np.float32) -> tuple[Any, ...]:
    from edgec.runtime.session import TensorSpec

    return (TensorSpec("x", np.dtype(dtype), shape),)


def test_the_device_is_leased_while_it_is_measured(sleepers: Path) -> None:
    """Another process would see the lease; this one may take it again."""
    seen = []

    def look(step: str) -> None:
        from edgec.runtime.lease import holder

        owner = holder("cpu")
        seen.append(owner is not None and owner.pid == os.getpid())

    result = bench(sleepers / "1", budget_s=1.0, progress=look)
    assert seen == [True] and result.waited_s == 0
    with lease("cpu", wait=False):
        pass


def test_a_folder_that_cannot_be_written_is_a_note(sleepers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    notes: list[str] = []
    row = type("R", (), {"latency": 1, "to_json": lambda self: {}})()
    module._record(module._Artifact.at(sleepers / "1"), [row], "cpu", notes)
    assert "cannot be written" in notes[0]


@pytest.mark.parametrize(
    ("options", "device"),
    [
        ({}, "cpu"),
        ({"provider": "cuda"}, "cuda:0"),
        ({"provider": "CUDA", "provider_options": {"device_id": 1}}, "cuda:1"),
        ({"provider": "CUDAExecutionProvider"}, "cuda:0"),
        ({"api": "compiled", "accelerator": "gpu"}, "gpu"),
        ({"provider": "cpu", "threads": 2}, "cpu"),
    ],
)
def test_the_device_follows_from_the_options(options: dict[str, Any], device: str) -> None:
    assert device_of(options) == device
