"""The runner for vendors' tools, on tools that are shell commands."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edgec.errors import EdgecError
from edgec.runtime.process import Outcome
from edgec.targets.toolchain import Tool, ToolPlan, ToolRun, missing, run_tool
from tests.command import is_running

SHELL = Path("/bin/sh")


def planned(script: str, **more: object) -> ToolPlan:
    given: dict[str, object] = {"timeout_s": 20.0, **more}
    return ToolPlan("tool", ("-c", script), ("in.txt",), ("out.txt",), ("tool.log",), **given)  # type: ignore[arg-type]


def run(plan: ToolPlan, folder: Path, **more: object) -> ToolRun:
    source = folder / "source.txt"
    source.write_text("input")
    out = folder / "out"
    out.mkdir(exist_ok=True)
    given: dict[str, object] = {"check": lambda place, text: None, **more}
    return run_tool(plan, SHELL, sources={"in.txt": source}, destination=out, **given)  # type: ignore[arg-type]


def failure(plan: ToolPlan, folder: Path, **more: object) -> EdgecError:
    with pytest.raises(EdgecError) as caught:
        run(plan, folder, **more)
    assert list((folder / "out").iterdir()) == []
    return caught.value


def test_results_appear_in_the_folder_and_nothing_else(tmp_path: Path) -> None:
    found = run(planned("cat in.txt > out.txt; echo hello; echo log > tool.log; touch other"), tmp_path)
    assert found.transcript == "hello\n"
    assert found.outputs == (tmp_path / "out/out.txt",)
    assert found.extras == (tmp_path / "out/tool.log",)
    assert sorted(item.name for item in (tmp_path / "out").iterdir()) == ["out.txt", "tool.log"]
    assert (tmp_path / "out/out.txt").read_text() == "input"


def test_the_environment_is_bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "mine")
    found = run(planned("env; cp in.txt out.txt", environment={"GIVEN": "1"}), tmp_path)
    assert "SECRET" not in found.transcript
    assert "GIVEN=1" in found.transcript
    assert "LC_ALL=C" in found.transcript


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("echo bad; exit 3", "EDG501"),
        ("kill -9 $$", "EDG503"),
        ("exit 139", "EDG503"),
        ("true", "EDG504"),
        ("touch out.txt", "EDG504"),
        ("ln -s in.txt out.txt", "EDG504"),
    ],
)
def test_failures(script: str, code: str, tmp_path: Path) -> None:
    error = failure(planned(script), tmp_path)
    assert (error.code, error.exit_code) == (code, 6)
    assert error.details["attempts"] == 1
    assert "log" in error.details


def test_time_out_ends_the_whole_group(tmp_path: Path) -> None:
    started = tmp_path / "started"
    error = failure(planned(f"sleep 600 & echo $! > {started}; sleep 600", timeout_s=2), tmp_path)
    assert error.code == "EDG502"
    deadline = time.monotonic() + 60
    while (runs := is_running(int(started.read_text()))) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not runs


def test_a_known_failure_has_its_own_error_also_with_status_0(tmp_path: Path) -> None:
    def explain(outcome: Outcome) -> EdgecError | None:
        return EdgecError("EDG511", "refused") if "no good" in outcome.output else None

    for status in (0, 1):
        error = failure(planned(f"cp in.txt out.txt; echo no good; exit {status}"), tmp_path, explain=explain)
        assert error.code == "EDG511"
        assert error.details["log"] == "no good\n"


def test_a_result_that_is_not_right_is_not_moved(tmp_path: Path) -> None:
    def check(folder: Path, text: str) -> None:
        assert (folder / "out.txt").read_text() == "input"
        raise EdgecError("EDG504", "not right")

    assert failure(planned("cp in.txt out.txt"), tmp_path, check=check).code == "EDG504"


def test_what_may_pass_is_tried_again(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    script = f"echo x >> {counter}; [ $(wc -l < {counter}) = 2 ] && cp in.txt out.txt"
    found = run(planned(script, attempts=3), tmp_path, may_pass=lambda outcome: True)
    assert found.attempts == 2
    counter.unlink()
    found.outputs[0].unlink()
    assert failure(planned(script, attempts=3), tmp_path).details["attempts"] == 1


def test_memory_is_limited(tmp_path: Path) -> None:
    script = "sleep 0.5; dd if=/dev/zero of=/dev/null bs=512M count=1 && cp in.txt out.txt"
    assert failure(planned(script, memory_limit=200 << 20), tmp_path).exit_code == 6


def test_a_missing_tool_has_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = Tool("edgec-no-such-tool", "EDGEC_NO_SUCH_TOOL", "it comes from nowhere")
    monkeypatch.delenv("EDGEC_NO_SUCH_TOOL", raising=False)
    assert tool.find() is None
    assert tool.find("sh") is not None
    monkeypatch.setenv("EDGEC_NO_SUCH_TOOL", "/bin/sh")
    assert tool.find() == Path("/bin/sh")
    monkeypatch.setenv("EDGEC_NO_SUCH_TOOL", str(tmp_path / "absent"))
    assert tool.find() is None
    plan = planned("a 'b'", environment={"KEY": "v 1"})
    error = missing(tool, plan, tmp_path)
    assert (error.code, error.exit_code) == ("EDG510", 5)
    assert error.details["plan"]["command"] == plan.command
    assert plan.command.startswith("'KEY=v 1' tool -c")


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    plan = planned("true")
    (tmp_path / "source").write_text("x")
    with pytest.raises(EdgecError) as caught:
        run_tool(
            plan,
            tmp_path / "absent",
            sources={"in.txt": tmp_path / "source"},
            destination=tmp_path,
            check=lambda folder, text: None,
        )
    assert caught.value.code == "EDG510"
