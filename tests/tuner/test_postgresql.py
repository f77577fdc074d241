"""Studies that are kept in PostgreSQL, on a real server of the tests' own."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from edgec.tuner.outcome import read_study
from tests.command import ROOT
from tests.postgres import HINT, Server, find_server

from .quick import edgec
from .replaying import Run, Runs
from .test_faults import TUNE
from .test_kill import finished, require_whole, runs, tuning, wait_for_trial, workers_of

__all__ = ["runs"]
PROGRAMS = find_server()
TRIALS = 24
pytestmark = pytest.mark.skipif(PROGRAMS is None, reason=HINT)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    pytest.importorskip("psycopg", reason="needs psycopg: pip install 'edgec[fleet]'")
    assert PROGRAMS is not None
    with Server(PROGRAMS) as started:
        yield started


@pytest.fixture
def database(server: Server, request: pytest.FixtureRequest) -> str:
    """The name of a database without tables."""
    name = f"d{abs(hash(request.node.name))}"
    assert server.query(f"create database {name}") is not None
    return name


def stored(server: Server, database: str) -> dict[str, list[optuna.trial.FrozenTrial]]:
    """What Optuna reads there: study to its trials."""
    url = server.url(server.password, database).replace("postgresql:", "postgresql+psycopg:")
    storage = optuna.storages.RDBStorage(url)
    try:
        names = optuna.get_all_study_names(storage)
        return {name: optuna.load_study(study_name=name, storage=storage).get_trials() for name in names}
    finally:
        storage.remove_session()
        storage.engine.dispose()


def require_secret(password: str, folder: Path, *texts: str) -> None:
    """The password is in no file below a folder, and in none of the texts."""
    for text in texts:
        assert password not in text
    for path in folder.rglob("*"):
        assert path.is_dir() or password.encode() not in path.read_bytes(), path


def test_a_study_begins_there_and_goes_on_there(server: Server, database: str, tmp_path: Path) -> None:
    folder, variables = tmp_path / "study", {"EDGEC_LEASES": str(tmp_path / "leases")}
    command = [*TUNE, "-o", folder, "--trials", "2", "--storage", server.url(database=database), "--json"]
    first = edgec(*command, **variables, PGPASSWORD=server.password)
    assert first.code == 0, first.stderr
    assert first.document["storage"] == server.url(database=database)

    # The whole URL in the environment does as well; it is nowhere to be seen, and there is no note.
    command = [*TUNE, "-o", folder, "--trials", "3"]
    again = edgec(*command, **variables, EDGEC_STORAGE=server.url(server.password, database))
    assert again.code == 0, again.stderr
    assert "list of processes" not in again.stderr
    report = edgec("tune", "report", folder, "--html", tmp_path / "report.html", "--json")
    require_secret(server.password, tmp_path, first.stdout, first.stderr, again.stdout, again.stderr, report.stdout)
    assert report.document["trials"][:2] == first.document["trials"]
    (trials,) = stored(server, database).values()
    assert [trial.user_attrs["configuration"] for trial in trials] == [
        trial["configuration"] for trial in report.document["trials"]
    ]
    assert not (folder / "study.db").exists(), "nothing else was written"

    # Without --storage it goes on in the folder's own file, which is filled, and says so.
    moved = edgec(*command, "--json", **variables)
    assert moved.code == 0, moved.stderr
    assert any("went on in sqlite://" in note for note in moved.document["notes"])
    assert (folder / "study.db").exists()


def test_two_coordinators_begin_at_once_in_an_empty_database(
    runs: Runs, server: Server, database: str, tmp_path: Path
) -> None:
    variables = {"PGPASSWORD": server.password, "EDGEC_STORAGE": server.url(database=database)}
    names = [f"study{number}" for number in range(3)]
    running = [runs.start(tmp_path / name, 6, 0.0, "surrogate", name, **variables) for name in names]
    assert [run.wait() for run in running] == [0, 0, 0]
    found = stored(server, database)
    assert sorted(found) == names
    for name, trials in found.items():
        assert [trial.user_attrs["configuration"] for trial in trials] == [
            trial["configuration"] for trial in finished(tmp_path / name)
        ]


def test_killed_at_random_moments_nothing_is_lost_or_kept_twice(
    runs: Runs, server: Server, database: str, tmp_path: Path
) -> None:
    variables = {"PGPASSWORD": server.password, "EDGEC_STORAGE": server.url(database=database)}

    def start(name: str, seconds: float) -> Run:
        return runs.start(tmp_path / name, TRIALS, seconds, "surrogate", name, **variables)

    assert start("straight", 0.0).wait() == 0
    rng = random.Random(3)
    for _ in range(3):
        run = start("killed", 0.02)
        run.listen()
        time.sleep(rng.uniform(0, 0.4))
        run.kill()
        run.wait()
    assert start("killed", 0.0).wait() == 0
    require_whole(tmp_path / "killed", finished(tmp_path / "straight"), None, count=TRIALS)
    found = stored(server, database)
    assert [trial.user_attrs["configuration"] for trial in found["killed"]] == [
        trial.user_attrs["configuration"] for trial in found["straight"]
    ]
    assert all(trial.state.is_finished() for trial in found["killed"])


def test_a_server_that_goes_away_ends_the_study_and_the_same_command_goes_on(
    server: Server, database: str, tmp_path: Path
) -> None:
    leases = str(tmp_path / "leases")
    url = server.url(server.password, database)
    process = tuning(tmp_path / "study", "--trials", "60", "--storage", url, EDGEC_LEASES=leases)
    wait_for_trial(tmp_path / "study", 2, process)
    for worker in workers_of(process.pid):
        command = (Path("/proc") / str(worker) / "cmdline").read_bytes().decode()
        assert server.password not in command
    server.stop()
    try:
        assert process.wait(300) == 2
    finally:
        server.start()
    assert process.stderr is not None
    said = process.stderr.read().decode()
    assert "EDG814  the storage of the study cannot be written" in said
    assert "the list of processes shows the password" in said
    require_secret(server.password, tmp_path, said)
    done = len([trial for trial in read_study(tmp_path / "study").trials if trial.state != "running"])
    assert done >= 2, "what was measured is in the journal; what had begun was not measured any more"
    command = ["tune", ROOT / "examples/digits/digits.onnx", "-t", "onnxruntime", "-o", tmp_path / "study"]
    again = edgec(*command, "--trials", str(done + 1), "--storage", url, "--json", EDGEC_LEASES=leases)
    assert again.code == 0, again.stderr
    (trials,) = stored(server, database).values()
    assert len(trials) == done + 1


def test_a_server_that_is_started_anew_between_two_trials_is_not_noticed(
    server: Server, database: str, tmp_path: Path
) -> None:
    from edgec.tuner.goals import Goals
    from edgec.tuner.search import Budget
    from edgec.tuner.storage import Mirror

    from .synthetic import opened, replay, searching, space

    of = space()
    with opened(tmp_path, of) as journal:
        mirror = Mirror(tmp_path, server.url(server.password, database), "s", of, Goals(), {})
        search = searching(journal, of, replay(of), mirror=mirror)
        search.run(Budget(trials=3))
        server.stop()
        server.start()
        search.run(Budget(trials=6))
    assert len(stored(server, database)["s"]) == 6


def test_a_copy_of_the_folder_that_writes_there_too_is_noticed(server: Server, database: str, tmp_path: Path) -> None:
    from edgec.errors import EdgecError
    from edgec.tuner.goals import Goals
    from edgec.tuner.search import Budget
    from edgec.tuner.storage import Mirror

    from .synthetic import opened, replay, searching, space

    of = space()
    url = server.url(server.password, database)
    with opened(tmp_path / "a", of) as one, opened(tmp_path / "b", of) as two:
        first, second = (Mirror(tmp_path, url, "s", of, Goals(), {}) for _ in range(2))
        searching(one, of, replay(of), mirror=first).run(Budget(trials=1))
        with pytest.raises(EdgecError, match="a copy of the study's folder") as caught:
            searching(two, of, replay(of), mirror=second).run(Budget(trials=1))
    assert caught.value.code == "EDG814"


def test_a_wrong_password_is_told_and_not_shown(server: Server, database: str, tmp_path: Path) -> None:
    for wrong in ("NotThatOne", ""):
        url = server.url(wrong or None, database)
        refused = edgec(*TUNE, "-o", tmp_path / "study", "--trials", "1", "--storage", url, "--json", "--debug")
        assert refused.code == 2
        assert refused.document["error"]["code"] == "EDG814"
        assert "password" in refused.document["error"]["why"]
        require_secret("NotThatOne", tmp_path, refused.stdout, refused.stderr)


def test_a_database_that_is_not_there_is_told(server: Server, tmp_path: Path) -> None:
    url = server.url(server.password, "nowhere")
    refused = edgec(*TUNE, "-o", tmp_path / "study", "--trials", "1", "--json", EDGEC_STORAGE=url)
    assert refused.document["error"]["code"] == "EDG814"
    assert "nowhere" in json.dumps(refused.document["error"])
    require_secret(server.password, tmp_path, refused.stdout, refused.stderr)
