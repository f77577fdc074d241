"""What Vela says and leaves, told by a script in its place; and what the real one does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgec.errors import EdgecError
from edgec.ir.types import DataType
from edgec.targets.ethosu import compiler
from edgec.targets.ethosu.compiler import compile_model
from edgec.targets.ethosu.options import VelaOptions
from edgec.targets.ethosu.package import decode
from edgec.targets.ethosu.summary import parse, parse_summary
from tests.targets.edgetpu.stub import Run, Stub, stub
from tests.targets.edgetpu.synthetic import Net
from tests.targets.ethosu.vela import need_vela

SYSTEM = "Ethos_U55_High_End_Embedded"
TABLE = f"model_summary_{SYSTEM}.csv"
SUMMARY = {
    "accelerator_configuration": "Ethos_U55_256",
    "system_config": SYSTEM,
    "memory_mode": "Shared_Sram",
    "core_clock": "500000000.0",
    "inference_time": "0.001343898",
    "sram_memory_used": "128.609375",
    "dram_memory_used": "0.0",
    "on_chip_flash_memory_used": "0.0",
    "off_chip_flash_memory_used": "422.328125",
    "nn_macs": "13576402",
    "cycles_npu": "366167",
    "cycles_sram_access": "195267",
    "cycles_dram_access": "0",
    "cycles_on_chip_flash_access": "0",
    "cycles_off_chip_flash_access": "450148",
    "cycles_total": "671949",
}
CSV = ",".join(SUMMARY) + "\n" + ",".join(SUMMARY.values()) + "\n"
SAYS = "\nCPU operators = {cpu} (0.0%)\nNPU operators = {npu} (100.0%)\n"
RESIZE = """
Warning (supported operators) operator: RESIZE_BILINEAR, ofm: 'ResizeBilinear_2'
Reason: Scaling matches and operation has unsupported scale-factor=16
IF not (IFM H == IFM W == 1) AND not IFM Shape == OFM Shape:
  - IF W Scale-factor != H Scale-factor:

Warning (supported operators) operator: CUSTOM, ofm: 'poses'
Reason: Unsupported opType
"""
CRASH = """Traceback (most recent call last):
  File "vela.py", line 8, in <module>
KeyError: '0'
"""
SEMANTICS = """Traceback (most recent call last):
  File "vela.py", line 137, in process_regor
RuntimeError: Compilation failed: Error: HARD_SWISH 'h' Does not have valid TFLite Semantics.
 - IFM has to be 8bit
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    net = Net()
    x = net.convolution(net.input(1, 8, 8, 4), 4, "first")
    return net.write(tmp_path / "model.tflite", net.convolution(x, 2, "second"))


def compiled(
    folder: Path, *, configuration: int = 0x8, magic: bytes = b"COP1", shape: int = 8, cpu: bool = False
) -> Path:
    """A file as Vela leaves it: a driver header with an empty command stream."""
    words = [0x100001, configuration, 0x10066001, 5, 5, 0x00010002, 0xFFFF]
    stream = np.frombuffer(magic + np.asarray(words, "<u4").tobytes(), np.uint8)
    net = Net()
    x = net.input(1, shape, shape, 4)
    constants = [net.constant(stream, DataType.UINT8), net.constant(np.arange(16), DataType.UINT8)]
    arena = net.tensor("scratch", (1024,), DataType.UINT8)
    before = net.convolution(x, 4, "first") if cpu else x
    y = net.add("CUSTOM", [*constants, arena, arena, before], (1, shape, shape, 2), custom="ethos-u", name="second")
    folder.mkdir(exist_ok=True)
    return net.write(folder / "compiled.tflite", y)


def instead(folder: Path, monkeypatch: pytest.MonkeyPatch, run: Run, version: str = "5.2.0\n") -> Stub:
    made = stub(folder / "tool", run, version=version)
    monkeypatch.setenv("EDGEC_VELA", str(made.program))
    return made


def failure(source: Path, folder: Path, **options: int) -> EdgecError:
    folder.mkdir(exist_ok=True)
    with pytest.raises(EdgecError) as caught:
        compile_model(source, folder, VelaOptions(**options))  # type: ignore[arg-type]
    assert not list(folder.iterdir()), "nothing is left behind"
    return caught.value


def test_success(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(SAYS.format(cpu=0, npu=2), {"model_vela.tflite": compiled(tmp_path / "made")}, {TABLE: CSV})
    tool = instead(tmp_path, monkeypatch, run)
    (tmp_path / "out").mkdir()
    result = compile_model(source, tmp_path / "out", VelaOptions())
    assert tool.arguments == list(compiler.plan("model.tflite", VelaOptions()).arguments)
    assert sorted(item.name for item in (tmp_path / "out").iterdir()) == [TABLE, "model_vela.tflite"]
    assert (result.version, result.left, result.compiled.arena_bytes, result.compiled.fast_arena_bytes) == (
        "5.2.0",
        (),
        1024,
        0,
    )
    assert result.compiled.accelerators == ("ethos-u55-256",)
    assert result.compiled.streams[0].command_bytes == 4


def test_part_of_a_model(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says = "Warning (supported operators) operator: CONV_2D, ofm: 'first'\nReason: too odd\n" + SAYS.format(
        cpu=1, npu=2
    )
    made = compiled(tmp_path / "made", cpu=True)
    instead(tmp_path, monkeypatch, Run(says, {"model_vela.tflite": made}, {TABLE: CSV}))
    (tmp_path / "out").mkdir()
    assert compile_model(source, tmp_path / "out", VelaOptions()).left == ((0, "too odd"),)


@pytest.mark.parametrize(
    ("run", "code", "said"),
    [
        (Run(SEMANTICS, status=1), "EDG511", "HARD_SWISH"),
        (Run(CRASH, status=1), "EDG501", "0"),
        (Run("", status=2), "EDG501", ""),
        (Run(SAYS.format(cpu=0, npu=2)), "EDG504", ""),
    ],
    ids=["semantics", "crash", "status", "no files"],
)
def test_failures(
    run: Run, code: str, said: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead(tmp_path, monkeypatch, run)
    error = failure(source, tmp_path / "out")
    assert (error.code, error.exit_code) == (code, 6)
    assert said in f"{error.why}"


def test_status_0_and_no_operator_on_the_npu_is_a_failure(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the real one does with float models; the copy is the source."""
    for says in (SAYS.format(cpu=2, npu=0), "", SAYS.format(cpu=0, npu=2)):
        instead(tmp_path, monkeypatch, Run(says, {"model_vela.tflite": source}, {TABLE: CSV}))
        error = failure(source, tmp_path / "out")
        assert (error.code, error.message) == ("EDG504", "Vela put no operator on the NPU")


def test_a_wrong_file_is_a_failure(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says = SAYS.format(cpu=0, npu=2)
    good = compiled(tmp_path / "good")
    for number, (made, table, output, why) in enumerate(
        [
            (compiled(tmp_path / "a", configuration=0x7), CSV, says, "ethos-u55-128"),
            (compiled(tmp_path / "b", magic=b"FLOP"), CSV, says, "command stream"),
            (compiled(tmp_path / "c", shape=9), CSV, says, "inputs"),
            (good, "nothing", says, "lines of numbers"),
            (good, CSV.replace("nn_macs", "nn"), says, "nn_macs"),
            (good, CSV.replace("Shared_Sram", "Sram_Only"), says, "Sram_Only"),
            (good, CSV, SAYS.format(cpu=3, npu=2), "3 operators"),
        ]
    ):
        instead(tmp_path / f"tool{number}", monkeypatch, Run(output, {"model_vela.tflite": made}, {TABLE: table}))
        error = failure(source, tmp_path / "out")
        assert error.code == "EDG504"
        assert why in f"{error.why}", why


def test_time_is_limited(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(tmp_path, monkeypatch, Run(sleeps=30))
    assert failure(source, tmp_path / "out", timeout_s=1).code == "EDG502"


def test_an_old_or_silent_vela_is_refused(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("3.12.0\n", "who knows\n", ""):
        instead(tmp_path, monkeypatch, Run(), version)
        assert failure(source, tmp_path / "out").code == "EDG512"


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [("sleep 60", "EDG502", "took longer than 0.5 s"), ("kill -9 $$", "EDG503", "was ended by SIGKILL")],
)
def test_a_vela_that_does_not_get_to_its_version_is_no_old_one(
    script: str, code: str, said: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "vela"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("EDGEC_VELA", str(program))
    monkeypatch.setattr("edgec.targets.ethosu.compiler.VERSION_TIMEOUT_S", 0.5)
    error = failure(source, tmp_path / "out")
    assert (error.code, error.exit_code, error.where) == (code, 6, f"{program} --version")
    assert said in error.message


def test_without_vela(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEC_VELA", str(tmp_path / "absent"))
    error = failure(source, tmp_path / "out")
    assert (error.code, error.exit_code) == ("EDG510", 5)
    assert "pip install" in f"{error.why}"


def test_the_console_and_the_table_are_read() -> None:
    found = parse(RESIZE + SAYS.format(cpu=2, npu=65866) + "Warning: something\n")
    assert (found.on_cpu, found.on_npu) == (2, 65866)
    assert [(item.operator, item.result) for item in found.kept] == [
        ("RESIZE_BILINEAR", "ResizeBilinear_2"),
        ("CUSTOM", "poses"),
    ]
    assert found.kept[0].reason == "Scaling matches and operation has unsupported scale-factor=16"
    assert found.warnings == ("something",)
    assert parse("").on_npu is None
    summary = parse_summary(CSV)
    assert summary.memory_bytes["sram"] == 131696
    assert summary.cycles["total"] == 671949
    assert summary.to_json()["inference_ms"] == 1.343898
    with pytest.raises(ValueError, match="lines of numbers"):
        parse_summary("")


def test_the_real_one_makes_nothing_of_a_float_model(tmp_path: Path) -> None:
    need_vela()
    net = Net()
    x = net.input(1, 4, 4, 4, dtype=DataType.FLOAT)
    model = net.write(tmp_path / "model.tflite", net.add("RELU", [x], (1, 4, 4, 4), dtype=DataType.FLOAT))
    error = failure(model, tmp_path / "out")
    assert (error.code, error.message) == ("EDG504", "Vela put no operator on the NPU")
    assert "--calibration" in f"{error.help}"


@pytest.mark.parametrize("accelerator", ["ethos-u55-32", "ethos-u65-512", "ethos-u85-2048"])
def test_the_real_one_compiles_for_the_npu_that_was_asked_for(accelerator: str, source: Path, tmp_path: Path) -> None:
    need_vela()
    (tmp_path / "out").mkdir()
    result = compile_model(source, tmp_path / "out", VelaOptions(accelerator=accelerator))
    assert decode(result.run.outputs[0]).accelerators == (accelerator,)
    assert result.transcript.warnings == ()
    assert result.left == ()
