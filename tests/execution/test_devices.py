"""All kinds of devices in one list, the Edge TPU among them."""

from __future__ import annotations

from pathlib import Path

from edgec.execution.devices import discover, edge_tpu, to_json
from edgec.runtime.devices import State
from edgec.targets.edgetpu.devices import Device, Probe
from tests.runtime.devices.fakes import host
from tests.schemas import validate


def test_every_kind_of_the_seed_guide_answers() -> None:
    reports = discover()
    kinds = [report.kind for report in reports]
    expected = {"cpu", "nvidia", "opencl", "vulkan", "mali", "edgetpu", "fpga", "ascend", "hexagon", "ethosu"}
    assert set(kinds) == expected and len(kinds) == len(expected)
    validate(to_json(reports))


def test_an_edge_tpu_that_works(tmp_path: Path) -> None:
    found = Probe("libedgetpu.so.1", "BuildLabel", (Device("usb", "/sys/bus/usb/devices/2-1"),))
    report = edge_tpu(host(tmp_path), lambda: found)
    assert report.state is State.PRESENT and report.devices[0].address == "usb:0"


def test_an_edge_tpu_that_is_plugged_in_without_its_library(tmp_path: Path) -> None:
    files = {"sys/bus/usb/devices/2-1/idVendor": "18d1\n", "sys/bus/usb/devices/2-1/idProduct": "9302\n"}
    report = edge_tpu(host(tmp_path, files), lambda: Probe("libedgetpu.so.1", problem="no such file", help="install"))
    assert report.state is State.UNUSABLE
    assert "/sys/bus/usb/devices/2-1" in report.reason and "no such file" in report.reason


def test_a_pci_edge_tpu_that_does_not_answer(tmp_path: Path) -> None:
    report = edge_tpu(host(tmp_path, {"dev/apex_0": ""}), lambda: Probe("libedgetpu.so.1", "1", problem="no device"))
    assert report.state is State.UNUSABLE and "/dev/apex_0" in report.reason


def test_no_edge_tpu(tmp_path: Path) -> None:
    assert edge_tpu(host(tmp_path), lambda: Probe("lib", problem="missing")).state is State.ABSENT
    assert "is installed" in edge_tpu(host(tmp_path), lambda: Probe("lib", "1", problem="no device")).reason
