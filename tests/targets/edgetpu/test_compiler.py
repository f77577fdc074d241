"""The driver against a script that plays the compiler: what it runs, what it believes, what it leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.errors import EdgecError
from edgec.targets.edgetpu.compiler import CompilerOptions, compile_models, plan
from tests.targets.edgetpu import transcripts
from tests.targets.edgetpu.pairs import pair
from tests.targets.edgetpu.stub import Run, Stub, stub
from tests.targets.edgetpu.synthetic import Net, compiled


@pytest.fixture
def source(tmp_path: Path) -> Path:
    net = Net()
    x = net.convolution(net.input(1, 8, 8, 4), 4, "first")
    return net.write(tmp_path / "model.tflite", net.convolution(x, 2, "second"))


def success(stem: str = "model", says: str = transcripts.SUCCESS_16) -> str:
    return says.format(stem=stem)


def good(tmp_path: Path, source: Path) -> Run:
    made = compiled(source, tmp_path / "made.tflite")
    stem = source.stem
    log = {f"{stem}_edgetpu.log": transcripts.LOG.format(stem=stem)}
    return Run(success(stem), {f"{stem}_edgetpu.tflite": made}, log)


def fails(tmp_path: Path, source: Path, program: Stub, **options: object) -> EdgecError:
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    chosen = CompilerOptions(program=str(program.program), **options)  # type: ignore[arg-type]
    with pytest.raises(EdgecError) as caught:
        compile_models([source], out, chosen)
    assert list(out.iterdir()) == []
    return caught.value


def test_the_plan_is_plain() -> None:
    made = plan(["model.tflite"], CompilerOptions())
    assert made.command == "edgetpu_compiler --out_dir . --show_operations --timeout_sec 180 model.tflite"
    assert made.outputs == ("model_edgetpu.tflite",)
    assert made.extras == ("model_edgetpu.log",)
    assert "--timeout_sec" not in plan(["model.tflite"], CompilerOptions(), version=15).arguments


def test_the_plan_of_everything() -> None:
    options = CompilerOptions(minimum_runtime_version=13, intermediate_tensors=("a", "b;c"), search_delegate=True)
    assert plan(["m.tflite"], options).command == (
        "edgetpu_compiler --out_dir . --show_operations --min_runtime_version 13 --intermediate_tensors 'a,b;c' "
        "--search_delegate --timeout_sec 180 m.tflite"
    )
    segmented = plan(["m.tflite"], CompilerOptions(segments=2))
    assert segmented.outputs == ("m_segment_0_of_2_edgetpu.tflite", "m_segment_1_of_2_edgetpu.tflite")
    assert segmented.arguments[2:5] == ("--show_operations", "--num_segments", "2")
    assert plan(["a.tflite", "b.tflite"], CompilerOptions()).outputs == ("a_edgetpu.tflite", "b_edgetpu.tflite")


@pytest.mark.parametrize(
    ("options", "models", "version"),
    [
        (CompilerOptions(segments=0), 1, 16),
        (CompilerOptions(segments=2), 2, 16),
        (CompilerOptions(segments=2, intermediate_tensors=("a",)), 1, 16),
        (CompilerOptions(intermediate_tensors=("a",)), 2, 16),
        (CompilerOptions(minimum_runtime_version=9), 1, 16),
        (CompilerOptions(search_delegate=True), 1, 15),
        (CompilerOptions(timeout_s=0), 1, 16),
    ],
)
def test_options_that_exclude_each_other(options: CompilerOptions, models: int, version: int) -> None:
    with pytest.raises(EdgecError) as caught:
        plan([f"{index}.tflite" for index in range(models)], options, version)
    assert caught.value.code == "EDG001"


def test_options_come_as_text() -> None:
    given = {"segments": "2", "min-runtime-version": "13", "search-delegate": "yes", "timeout": "60", "compiler": "/x"}
    assert CompilerOptions.from_mapping(given) == CompilerOptions(2, 13, (), True, 60, "/x")
    assert CompilerOptions.from_mapping({"intermediate-tensors": "a,b"}).intermediate_tensors == ("a", "b")
    for key, value in (
        ("segments", "two"),
        ("search-delegate", "perhaps"),
        ("other", "1"),
        ("intermediate-tensors", "a,,b"),
    ):
        with pytest.raises(EdgecError) as caught:
            CompilerOptions.from_mapping({key: value})
        assert caught.value.code == "EDG001"


def test_success(tmp_path: Path, source: Path) -> None:
    tool = stub(tmp_path / "tool", good(tmp_path, source))
    out = tmp_path / "out"
    out.mkdir()
    found = compile_models([source], out, CompilerOptions(program=str(tool.program)))
    assert sorted(item.name for item in out.iterdir()) == ["model_edgetpu.log", "model_edgetpu.tflite"]
    assert (found.version, found.left, found.run.attempts) == ("16.0.384591198", (), 1)
    assert found.compiled[0].packages[0].cached_bytes == 640
    assert tool.arguments == ["--out_dir", ".", "--show_operations", "--timeout_sec", "180", "model.tflite"]


def test_partial_mapping_is_a_success(tmp_path: Path, source: Path) -> None:
    made = compiled(source, tmp_path / "made.tflite", left=[1])
    says = transcripts.PARTIAL_15.format(stem="model", total=2, mapped=1, left=1)
    tool = stub(tmp_path / "tool", Run(says, {"model_edgetpu.tflite": made}), version=transcripts.V15)
    out = tmp_path / "out"
    out.mkdir()
    found = compile_models([source], out, CompilerOptions(program=str(tool.program)))
    assert found.left == (1,)
    assert "--timeout_sec" not in tool.arguments


def test_a_real_pair_passes_every_check(tmp_path: Path) -> None:
    """Except that the file must bear the compiler's names."""
    real = pair("deeplabv3")
    source = tmp_path / "model.tflite"
    source.write_bytes(real.source.read_bytes())
    says = transcripts.PARTIAL_15.format(stem="model", total=72, mapped=64, left=8)
    tool = stub(tmp_path / "tool", Run(says, {"model_edgetpu.tflite": real.compiled}), version=transcripts.V15)
    out = tmp_path / "out"
    out.mkdir()
    found = compile_models([source], out, CompilerOptions(program=str(tool.program)))
    assert found.left == tuple(real.left)


def test_a_flaky_first_run_is_repeated_once(tmp_path: Path, source: Path) -> None:
    tool = stub(tmp_path / "tool", Run(transcripts.INTERNAL_ERROR, status=1), good(tmp_path, source))
    out = tmp_path / "out"
    out.mkdir()
    assert compile_models([source], out, CompilerOptions(program=str(tool.program))).run.attempts == 2


def test_internal_errors_are_given_up_after_two_runs(tmp_path: Path, source: Path) -> None:
    tool = stub(tmp_path / "tool", Run(transcripts.INTERNAL_ERROR, status=1))
    error = fails(tmp_path, source, tool)
    assert (error.code, error.exit_code, tool.count) == ("EDG501", 6, 2)
    assert "Internal compiler error" in (error.why or "")
    assert "Internal compiler error" in error.details["log"]


@pytest.mark.parametrize(
    ("says", "code", "words"),
    [
        (transcripts.NOT_QUANTIZED, "EDG511", "int8"),
        (transcripts.NOT_PARSED, "EDG511", "cannot read"),
        (transcripts.LARGE_ACTIVATIONS, "EDG511", "activations"),
        (transcripts.TIMED_OUT, "EDG502", "time"),
    ],
)
@pytest.mark.parametrize("status", [1, 0])
def test_refusals_are_understood_whatever_the_status(
    says: str, code: str, words: str, status: int, tmp_path: Path, source: Path
) -> None:
    tool = stub(tmp_path / "tool", Run(says.format(stem="model"), status=status))
    error = fails(tmp_path, source, tool)
    assert (error.code, error.exit_code, tool.count) == (code, 6, 1)
    assert words in error.message


def test_a_crash_behind_the_wrapper_is_seen(tmp_path: Path, source: Path) -> None:
    tool = stub(tmp_path / "tool", Run(transcripts.CRASH.format(), status=139))
    error = fails(tmp_path, source, tool)
    assert error.code == "EDG503"
    assert "SIGSEGV" in error.message
    assert tool.count == 2


def test_a_compiler_that_hangs_is_stopped(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgec.targets.edgetpu.compiler.MARGIN_S", 1.0)
    tool = stub(tmp_path / "tool", Run(transcripts.V16, sleeps=60))
    error = fails(tmp_path, source, tool, timeout_s=1)
    assert error.code == "EDG502"
    assert tool.count == 1


def test_success_without_a_file(tmp_path: Path, source: Path) -> None:
    error = fails(tmp_path, source, stub(tmp_path / "tool", Run(success())))
    assert (error.code, error.exit_code) == ("EDG504", 6)
    assert "model_edgetpu.tflite" in error.message


def test_success_with_an_empty_file(tmp_path: Path, source: Path) -> None:
    error = fails(tmp_path, source, stub(tmp_path / "tool", Run(success(), {"model_edgetpu.tflite": None})))
    assert error.code == "EDG504"


def test_success_with_a_stub_of_a_file(tmp_path: Path, source: Path) -> None:
    """As Ultralytics pull request 25068 tells: a file of one kilobyte was shipped as a model."""
    stump = tmp_path / "stump.tflite"
    stump.write_bytes(source.read_bytes()[:700])
    error = fails(tmp_path, source, stub(tmp_path / "tool", Run(success(), {"model_edgetpu.tflite": stump})))
    assert error.code == "EDG504"


def test_success_with_the_source_unchanged(tmp_path: Path, source: Path) -> None:
    """Nothing was mapped: the compiler then writes the model as it was (issue 708)."""
    error = fails(tmp_path, source, stub(tmp_path / "tool", Run(success(), {"model_edgetpu.tflite": source})))
    assert error.code == "EDG504"
    assert "edgetpu-custom-op" in (error.why or "")


def test_success_with_another_models_file(tmp_path: Path, source: Path) -> None:
    net = Net()
    other = net.write(tmp_path / "other.tflite", net.convolution(net.input(1, 4, 4, 4), 2, "second"))
    made = compiled(other, tmp_path / "made.tflite")
    error = fails(tmp_path, source, stub(tmp_path / "tool", Run(success(), {"model_edgetpu.tflite": made})))
    assert error.code == "EDG504"
    assert "inputs" in (error.why or "")


def test_a_transcript_that_contradicts_the_file(tmp_path: Path, source: Path) -> None:
    made = compiled(source, tmp_path / "made.tflite")
    says = transcripts.PARTIAL_15.format(stem="model", total=2, mapped=1, left=1)
    error = fails(tmp_path, source, stub(tmp_path / "tool", Run(says, {"model_edgetpu.tflite": made})))
    assert error.code == "EDG504"


def test_a_file_that_cannot_be_written_is_no_success(tmp_path: Path, source: Path) -> None:
    """Issue 400: success is reported, then the missing folder."""
    tool = stub(tmp_path / "tool", Run(transcripts.UNWRITABLE.format(stem="model"), status=0))
    error = fails(tmp_path, source, tool)
    assert error.code in ("EDG501", "EDG504")


def test_a_version_line_and_nothing_else(tmp_path: Path, source: Path) -> None:
    """Issue 411: version 15 with --num_segments."""
    tool = stub(tmp_path / "tool", Run(transcripts.V15), version=transcripts.V15)
    error = fails(tmp_path, source, tool, segments=2)
    assert error.code == "EDG504"


def test_segments(tmp_path: Path) -> None:
    net = Net()
    x = net.input(1, 8, 8, 4)
    middle = net.convolution(x, 4, "middle")
    source = net.write(tmp_path / "model.tflite", net.convolution(middle, 2, "end"))
    first = Net()
    first_end = first.convolution(first.input(1, 8, 8, 4), 4, "middle")
    second = Net()
    second_end = second.convolution(second.input(1, 8, 8, 4, name="middle"), 2, "end")
    writes = {}
    says = ""
    for index, (part, end) in enumerate(((first, first_end), (second, second_end))):
        stem = f"model_segment_{index}_of_2"
        made = part.write(tmp_path / f"{stem}.tflite", end)
        writes[f"{stem}_edgetpu.tflite"] = compiled(made, tmp_path / f"{stem}_made.tflite")
        says += success(stem)
    tool = stub(tmp_path / "tool", Run(says, writes))
    out = tmp_path / "out"
    out.mkdir()
    found = compile_models([source], out, CompilerOptions(segments=2, program=str(tool.program)))
    assert [item.name for item in found.run.outputs] == list(writes)
    assert found.left is None
    assert len(found.transcript.models) == 2


def test_models_compiled_together(tmp_path: Path) -> None:
    sources, writes = [], {}
    for name in ("a", "b"):
        net = Net()
        source = net.write(tmp_path / f"{name}.tflite", net.convolution(net.input(1, 8, 8, 4), 4, name))
        sources.append(source)
        writes[f"{name}_edgetpu.tflite"] = compiled(source, tmp_path / f"{name}_made.tflite")
    tool = stub(tmp_path / "tool", Run(success("a") + success("b"), writes))
    out = tmp_path / "out"
    out.mkdir()
    found = compile_models(sources, out, CompilerOptions(program=str(tool.program)))
    assert tool.arguments[-2:] == ["a.tflite", "b.tflite"]
    assert len(found.compiled) == 2
    with pytest.raises(EdgecError) as caught:
        compile_models([sources[0], sources[0]], out, CompilerOptions())
    assert caught.value.code == "EDG001"


def test_intermediate_tensors_add_outputs(tmp_path: Path) -> None:
    net = Net()
    middle = net.convolution(net.input(1, 8, 8, 4), 4, "middle")
    end = net.convolution(middle, 2, "end")
    source = net.write(tmp_path / "model.tflite", end)
    both = net.write(tmp_path / "both.tflite", end, middle)
    made = compiled(both, tmp_path / "made.tflite")
    tool = stub(tmp_path / "tool", Run(success(), {"model_edgetpu.tflite": made}))
    out = tmp_path / "out"
    out.mkdir()
    options = CompilerOptions(program=str(tool.program), intermediate_tensors=("middle",))
    assert compile_models([source], out, options).run.outputs
    assert tool.arguments[3:5] == ["--intermediate_tensors", "middle"]


@pytest.mark.parametrize("version", ["Edge TPU Compiler version 2.1.302470888\n", "something else\n"])
def test_other_versions_are_refused(version: str, tmp_path: Path, source: Path) -> None:
    tool = stub(tmp_path / "tool", good(tmp_path, source), version=version)
    error = fails(tmp_path, source, tool)
    assert (error.code, error.exit_code, tool.count) == ("EDG512", 6, 0)


def test_no_compiler(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("EDGEC_EDGETPU_COMPILER", raising=False)
    with pytest.raises(EdgecError) as caught:
        compile_models([source], tmp_path, CompilerOptions())
    error = caught.value
    assert (error.code, error.exit_code) == ("EDG510", 5)
    assert "edgetpu_compiler --out_dir . --show_operations --timeout_sec 180 model.tflite" in (error.help or "")
    monkeypatch.setenv("EDGEC_EDGETPU_COMPILER", str(tmp_path / "absent"))
    with pytest.raises(EdgecError) as caught:
        compile_models([source], tmp_path, CompilerOptions())
    assert caught.value.code == "EDG510"
