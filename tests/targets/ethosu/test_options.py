"""Options, and the run of Vela that follows from them."""

from __future__ import annotations

from typing import Any

import pytest

from edgec.errors import UsageError
from edgec.targets.base import TargetOptions
from edgec.targets.ethosu import TARGET
from edgec.targets.ethosu.compiler import plan
from edgec.targets.ethosu.hardware import ACCELERATORS, DEFAULT_ACCELERATOR, FAMILIES, accelerator_of
from edgec.targets.ethosu.options import VelaOptions
from tests.targets.ethosu.vela import need_vela


@pytest.mark.parametrize(
    ("given", "command"),
    [
        (
            {},
            "vela --accelerator-config ethos-u55-256 --config Arm/vela.ini --system-config Ethos_U55_High_End_Embedded "
            "--memory-mode Shared_Sram --optimise Performance --output-dir . model.tflite",
        ),
        (
            {"accelerator": "ethos-u65-512", "optimise": "size"},
            "vela --accelerator-config ethos-u65-512 --config Arm/vela.ini --system-config Ethos_U65_Client_Server "
            "--memory-mode Dedicated_Sram_384KB --optimise Size --output-dir . model.tflite",
        ),
        (
            {
                "accelerator": "ethos-u85-1024",
                "system-config": "Ethos_U85_SYS_Flash_High",
                "memory-mode": "Shared_Sram",
                "arena-cache-size": "200000",
            },
            "vela --accelerator-config ethos-u85-1024 --config Arm/vela.ini --system-config Ethos_U85_SYS_Flash_High "
            "--memory-mode Shared_Sram --optimise Performance --output-dir . --arena-cache-size 200000 model.tflite",
        ),
    ],
)
def test_the_plan_says_everything(given: dict[str, Any], command: str) -> None:
    made = plan("model.tflite", VelaOptions.from_mapping(given))
    assert made.command == command
    system = made.arguments[made.arguments.index("--system-config") + 1]
    assert made.outputs == ("model_vela.tflite", f"model_summary_{system}.csv")


def test_the_plan_of_the_target_is_the_same() -> None:
    options = TargetOptions(extra={"accelerator": "ethos-u55-64", "timeout": "5"})
    document = TARGET.tool_plan(options, "model")
    assert document["timeout_s"] == 5
    assert "--accelerator-config ethos-u55-64" in document["command"]


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ({"accelerator": "ethos-u55-512"}, "ethos-u55-256"),
        ({"colour": "red"}, "accelerator"),
        ({"system-config": "Ethos_U85_SYS_DRAM_Mid"}, "Ethos_U55_Deep_Embedded"),
        ({"memory-mode": "Dedicated_Sram"}, "Shared_Sram"),
        ({"optimise": "beauty"}, "Performance"),
        ({"arena-cache-size": "many"}, "many"),
        ({"arena-cache-size": "0"}, ""),
        ({"timeout": "0"}, ""),
    ],
)
def test_what_vela_would_not_take_is_refused_before(given: dict[str, str], known: str) -> None:
    with pytest.raises(UsageError) as caught:
        VelaOptions.from_mapping(given)
    assert caught.value.code == "EDG001"
    assert known in f"{caught.value.why}"


def test_a_configuration_word_names_the_accelerator() -> None:
    """Words of models that Vela 5.2.0 compiled."""
    words = {0x1807: "ethos-u55-128", 0x1005: "ethos-u55-32", 0x10003008: "ethos-u65-256", 0x2000261B: "ethos-u85-2048"}
    assert {word: accelerator_of(word) for word in words} == words
    assert accelerator_of(0x10006009) == "ethos-u65-512"
    assert accelerator_of(0xF0000001) == ""


def test_vela_knows_every_accelerator_system_and_memory_mode() -> None:
    """Its own help and its own configuration file."""
    import subprocess

    program = str(need_vela())
    said = subprocess.run([program, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
    listed = said.split("--accelerator-config {")[-1].split("}")[0].replace("\n", "").replace(" ", "").split(",")
    assert sorted(listed) == sorted(ACCELERATORS)
    assert DEFAULT_ACCELERATOR in listed
    arguments = [program, "--list-configs", "Arm/vela.ini"]
    configurations = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60).stdout
    for family in FAMILIES:
        for name in (*family.systems, *family.memories):
            assert name in configurations, name
