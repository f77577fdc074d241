"""A study of ours in optuna-dashboard: what it shows of trials, values, limits, knobs and reasons."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import pytest

from edgec.tuner.goals import Goals
from edgec.tuner.search import Budget
from edgec.tuner.space import key_of
from edgec.tuner.storage import DATABASE, Mirror

from .synthetic import opened, replay, searching, space

dashboard = pytest.importorskip("optuna_dashboard", reason="needs optuna-dashboard: pip install optuna-dashboard")


def get(application: Any, path: str, query: str = "") -> Any:
    """The document that the dashboard answers."""
    request: dict[str, Any] = {}
    setup_testing_defaults(request)
    request.update(PATH_INFO=path, QUERY_STRING=query, **{"wsgi.input": io.BytesIO()})
    status: list[str] = []
    body = b"".join(application(request, lambda line, headers, *more: status.append(line)))
    assert status[0].startswith("200"), body
    return json.loads(body)


def test_the_dashboard_shows_trials_values_limits_knobs_and_reasons(tmp_path: Path) -> None:
    of = space()
    goals = Goals(("latency", "memory"), {"latency": 9.0})
    assert of.points is not None
    memory = {key_of(point): int(1e6 * (1 + 3 * int(point["threads"] or 1))) for point in of.points}
    bad = {key_of(point): ("crash", "SIGSEGV in the kernel") for point in of.points if point["precision"] == "int8"}
    with opened(tmp_path, of, goals) as journal:
        mirror = Mirror(tmp_path, None, "net", of, goals, {"processor": "none"})
        search = searching(journal, of, replay(of, memory=memory, failures=bad), goals, mirror=mirror)
        search.run(Budget(trials=15))
    application = dashboard.wsgi(optuna.storages.RDBStorage(f"sqlite:///{tmp_path / DATABASE}"))

    (summary,) = get(application, "/api/studies")["study_summaries"]
    assert summary["study_name"] == "net"
    study = get(application, f"/api/studies/{summary['study_id']}", "after=0")
    assert study["directions"] == ["minimize", "minimize"]
    loaded = optuna.load_study(study_name="net", storage=f"sqlite:///{tmp_path / DATABASE}")
    assert loaded.metric_names == ["latency_ms", "memory_bytes"]
    assert {"key": "processor", "value": "none"} in study["user_attrs"]
    assert len(study["trials"]) == 15
    states = {"complete": "Complete", "pruned": "Pruned", "failed": "Fail"}
    for shown, trial in zip(study["trials"], search.trials):
        assert shown["state"] == states[trial.state]
        told = {item["key"]: item["value"] for item in shown["user_attrs"]}
        assert told.get("reason") == trial.reason
        assert {item["name"]: item["param_external_value"] for item in shown["params"]} == {
            name: str(value) for name, value in of.complete(trial.configuration).items()
        }
        for name, value in trial.values.items():
            assert float(told[name]) == pytest.approx(value)
            assert (f"{name} (95 %)" in told) == (name in trial.intervals)
        if "latency_ms" in trial.values:
            assert (shown["constraints"][0] <= 0) == (trial.values["latency_ms"] <= 9.0)
        if trial.state == "complete":
            assert shown["values"] == [trial.values["latency_ms"], trial.values["memory_bytes"]]
    assert any(trial.state == "failed" for trial in search.trials)
