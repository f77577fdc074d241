"""The HTML report, opened in a browser that clicks and looks; and the documents."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgec.cli.main import main
from edgec.tuner.goals import LIMITED, Goals
from edgec.tuner.journal import Journal
from edgec.tuner.outcome import StudyResult, read_study
from edgec.tuner.report import limited, render_html, write_html
from edgec.tuner.search import Budget
from tests.schemas import validate

from .browser import Browser, find_chromium
from .synthetic import finish, opened, replay, searching, space


@pytest.fixture
def study(tmp_path: Path) -> StudyResult:
    """A finished study of some trials, one of them failed, with a name that tries to break out of the page."""
    of = space((1, 2, 4))
    assert of.points is not None
    from edgec.tuner.space import key_of

    memory = {key_of(point): int(1e6 * (point["batch"] + 3 * point["threads"])) for point in of.points}  # type: ignore[operator]
    bad = {key_of(point): ("crash", "</script><b id=evil>SIGSEGV</b>") for point in of.points if point["threads"] == 2}
    goals = Goals(("throughput",), {"latency": 20.0})
    with opened(tmp_path / "study", of, goals=goals, name="net</script><b id=evil>.onnx") as journal:
        search = searching(journal, of, replay(of, memory=memory, failures=bad), goals)
        finish(journal, search, search.run(Budget(trials=25)))
    return read_study(tmp_path / "study")


def test_the_document_follows_its_schema_finished_or_not(study: StudyResult, tmp_path: Path) -> None:
    document = json.loads(json.dumps(study.to_json(), allow_nan=False))
    validate(document)
    assert document["status"] == "finished"
    assert document["winner"]["number"] != 0
    assert document["gain"]["significant"] is True
    assert document["counts"]["complete"] + document["counts"]["pruned"] + document["counts"]["failed"] == 25
    of = space((1,))
    with opened(tmp_path / "other", of) as journal:
        search = searching(journal, of, replay(of))
        search.run(Budget(trials=3))
        journal.append({"kind": "begin", "number": 3, "configuration": of.default})
    document = json.loads(json.dumps(read_study(tmp_path / "other").to_json(), allow_nan=False))
    validate(document)
    assert document["status"] == "unfinished"
    assert document["winner"] is None
    assert [trial["state"] for trial in document["trials"]][-1] == "running"


def test_a_study_of_a_journal_with_only_its_header_can_be_shown(tmp_path: Path) -> None:
    with opened(tmp_path, space()):
        pass
    result = read_study(tmp_path)
    validate(json.loads(json.dumps(result.to_json())))
    assert "is not finished" in render_html(result)


def test_the_page_needs_no_other_file(study: StudyResult) -> None:
    text = render_html(study)
    assert "src=" not in text.split('<script type="application/json"')[0]
    assert "http://" not in text.replace("http://www.w3.org/", "")
    assert "https://" not in text
    assert len(text) < 400_000


@pytest.fixture
def page(study: StudyResult, tmp_path: Path) -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium here; $EDGEC_TEST_CHROMIUM names one")
    file = write_html(study, tmp_path / "report.html")
    with Browser(program) as browser:
        browser.open(file.as_uri())
        yield browser


def test_the_report_in_a_browser(page: Browser, study: StudyResult) -> None:
    assert page.console == []
    assert {url.partition(":")[0] for url in page.requested} <= {"file", "data"}
    assert page.evaluate("document.getElementById('evil')") is None
    assert study.winner is not None
    number = study.winner["number"]

    # The winner, its gain with the interval, and the command line.
    told = page.evaluate("document.getElementById('winner').innerText")
    assert f"Trial {number}" in told
    assert "times the throughput" in told
    assert "--tuned" in page.evaluate("document.getElementById('command').textContent")

    # One point per trial with values, a front, and a bar per knob that was varied.
    measured = sum("latency_ms" in trial.values for trial in study.trials)
    assert page.evaluate("document.querySelectorAll('#front circle').length") == measured
    assert page.evaluate("document.querySelectorAll('#history circle').length") == measured
    varied = sum(len(knob["values"]) > 1 for knob in study.header["knobs"])
    assert page.evaluate("document.querySelectorAll('#importance rect').length") == varied
    assert page.evaluate("document.querySelectorAll('#distributions .interval').length") >= 5

    # A click on a point tells of its trial.
    page.click("#front circle.default")
    assert page.evaluate("document.getElementById('details').innerText").startswith("Trial 0")
    page.click("#history circle.winner")
    assert page.evaluate("document.getElementById('details').innerText").startswith(f"Trial {number}")
    assert page.evaluate("document.querySelector('#trials tr.chosen').dataset.trial") == str(number)

    # The table can be filtered, sorted and clicked; reasons are shown as text.
    page.click("#filters [data-state=failed]")
    rows = page.evaluate("document.querySelectorAll('#trials tbody tr').length")
    assert rows == sum(trial.state == "failed" for trial in study.trials) > 0
    assert "</script><b id=evil>SIGSEGV</b>" in page.evaluate("document.querySelector('#trials tbody').innerText")
    page.click("#trials tbody tr")
    assert ": failed" in page.evaluate("document.getElementById('details').innerText")
    page.click("#filters [data-state=all]")
    page.click("#trials th:nth-child(3)")
    order = page.evaluate(
        "[...document.querySelectorAll('#trials tbody tr')].map(row => Number(row.children[2].textContent))"
    )
    shown = [value for value in order if value]
    assert shown == sorted(shown)
    assert page.console == []


def test_the_page_fits_a_phone(page: Browser, study: StudyResult) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
    deadline = time.monotonic() + 20
    while page.evaluate("document.querySelector('#front svg').viewBox.baseVal.width") > 390:
        assert time.monotonic() < deadline, "the charts are not drawn anew"
        time.sleep(0.05)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('svg text')].filter(text => text.textContent)"
        ".map(text => text.getBoundingClientRect().height))"
    )
    assert smallest >= 10, "labels can be read"
    assert page.evaluate("document.querySelectorAll('svg .selected').length") >= 2, "the winner stays chosen"
    assert page.console == []


def test_the_command_of_the_report_needs_no_path(study: StudyResult, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "report", f"{study.folder}/", "--html"]) == 0
    file = study.folder / "report.html"
    assert file.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert capsys.readouterr().out == f"report: {file}\n"
    other = study.folder / "other.html"
    assert main(["tune", "report", str(study.folder), "--html", str(other), "--json"]) == 0
    assert other.exists()
    assert json.loads(capsys.readouterr().out)["status"] == "finished"


def test_limits_are_told_in_people_s_units(study: StudyResult) -> None:
    assert limited("memory", 19.5e6) == "memory at most 19.5 MB"
    assert all(limited(name, 1.0) for name in LIMITED), "of every limit that there is"
    assert limited("drop", 0.02) == "at most 2 % of the quality lost"
    assert "one run at most 20 ms" in render_html(study)


def test_a_report_that_cannot_be_written_is_an_error(study: StudyResult, tmp_path: Path) -> None:
    from edgec.errors import EdgecError

    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(EdgecError, match="cannot be written"):
        write_html(study, tmp_path / "file" / "report.html")


def test_a_damaged_journal_is_told_with_its_line(tmp_path: Path) -> None:
    from edgec.errors import EdgecError

    with opened(tmp_path, space()):
        pass
    file = tmp_path / "journal.jsonl"
    file.write_bytes(file.read_bytes() + b"garbage\n" + b'{"kind": "begin"}\n')
    with pytest.raises(EdgecError, match="damaged") as caught:
        read_study(tmp_path)
    assert "line 2" in str(caught.value)
    with pytest.raises(EdgecError, match="holds no study"):
        read_study(tmp_path / "nowhere")


def test_a_line_that_was_cut_short_is_removed_when_the_study_goes_on(tmp_path: Path) -> None:
    with opened(tmp_path, space()):
        pass
    file = tmp_path / "journal.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"kind":"end","trial":{"num')
    assert len(read_study(tmp_path).trials) == 0
    with Journal(tmp_path) as journal:
        assert len(journal.entries) == 1
    assert file.read_bytes() == whole
