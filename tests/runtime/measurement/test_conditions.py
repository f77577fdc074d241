"""What the machine was like while something was measured, and what of that forbids quoting the number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgec.runtime.devices.nvml import Nvml
from edgec.runtime.measurement.conditions import between, limits, look, reasons
from edgec.runtime.measurement.energy import Meter, open_meter
from edgec.runtime.measurement.gpu import device_memory
from tests.runtime.devices.fakes import FakeNvml, write

FILES = {
    "proc/stat": "cpu  100 0 100 700 0 0 0 100 0 0\ncpu0 1 2 3\n",
    "proc/loadavg": "1.50 1.00 0.50 2/100 999\n",
    "proc/self/cgroup": "0::/\n",
    "sys/fs/cgroup/cpu.stat": "usage_usec 5\nthrottled_usec 2000000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "3000000",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "3200000",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "7",
    "sys/class/thermal/thermal_zone0/temp": "45500",
    "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp",
}


def test_everything_that_the_kernel_offers_is_read(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    found = look(tmp_path)
    assert found.load == 1.5
    assert found.busy_s == pytest.approx(0.3 * (found.total_s or 0))
    assert found.stolen_s == pytest.approx(0.1 * (found.total_s or 0))
    assert found.clocks_mhz == (3000.0, 3200.0) and found.governors == ("schedutil",)
    assert found.temperatures_c == {"x86_pkg_temp": 45.5}
    assert found.throttled == 7 and found.held_back_s == 2.0


def test_what_a_kernel_does_not_offer_is_none(tmp_path: Path) -> None:
    found = look(tmp_path)
    assert (found.load, found.busy_s, found.throttled, found.held_back_s) == (None, None, None, None)
    assert found.clocks_mhz == () and found.temperatures_c == {}
    assert between(found, found)["others"] is None
    assert reasons(found, found) == []
    assert limits(tmp_path).usable >= 1


def test_this_machine_can_be_looked_at() -> None:
    first = look()
    document = between(first, look())
    assert document["seconds"] > 0
    assert document["limits"]["processors"] >= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"throttled": 9}, "throttled because of heat 2 times"),
        ({"held_back_s": 2.5}, "limit held it back 5%"),
        ({"stolen_s": 1.0, "total_s": 18.0}, "hypervisor took away"),
        ({"clocks_mhz": (2000.0, 2000.0)}, "the clock went from 3100 to 2000 MHz (governor schedutil)"),
        ({"governors": ("powersave",)}, "the governor went from schedutil to powersave"),
    ],
)
def test_what_forbids_quoting_a_number(tmp_path: Path, change: dict[str, object], words: str) -> None:
    write(tmp_path, FILES)
    before = replace(look(tmp_path), at=0.0, total_s=10.0, busy_s=3.0, stolen_s=0.0, held_back_s=2.0)
    after = replace(before, at=10.0, total_s=20.0, busy_s=6.0)
    assert reasons(before, after) == []
    (reason,) = reasons(before, replace(after, **change))  # type: ignore[arg-type]
    assert words in reason


def test_other_work_is_told_from_our_own(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    before = replace(look(tmp_path), at=0.0, total_s=0.0, busy_s=0.0)
    document = between(before, replace(before, at=10.0, total_s=20.0, busy_s=15.0), own_s=9.0)
    assert document["busy"] == 0.75 and document["others"] == pytest.approx(0.3)


def test_energy_of_packages_is_added_and_followed_over_the_end_of_the_counter(tmp_path: Path) -> None:
    for index, value in ((0, "900"), (1, "100")):
        zone = f"sys/class/powercap/intel-rapl:{index}"
        write(tmp_path, {f"{zone}/energy_uj": value, f"{zone}/max_energy_range_uj": "1000"})
    write(tmp_path, {"sys/class/powercap/intel-rapl:0:0/energy_uj": "5"})  # a part of the package
    meter = open_meter("cpu", root=tmp_path)
    assert meter.problem == "" and meter.read() == 0.0
    write(tmp_path, {"sys/class/powercap/intel-rapl:0/energy_uj": "50"})
    write(tmp_path, {"sys/class/powercap/intel-rapl:1/energy_uj": "150"})
    assert meter.read() == pytest.approx((150 + 50) / 1e6)


def test_counters_for_root_only_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone = "sys/class/powercap/intel-rapl:0"
    write(tmp_path, {f"{zone}/energy_uj": "1", f"{zone}/max_energy_range_uj": "10"})
    monkeypatch.setattr(Path, "read_text", _denied)
    meter = open_meter("cpu", root=tmp_path)
    assert "root only" in meter.problem and meter.read() is None


def _denied(self: Path, *_: object, **__: object) -> str:
    raise PermissionError(13, "Permission denied")


def test_a_machine_without_counters_says_so(tmp_path: Path) -> None:
    meter = open_meter("cpu", root=tmp_path)
    assert "no RAPL counters" in meter.problem and meter.read() is None
    assert "nothing counts the energy" in open_meter("npu:0").problem
    assert isinstance(open_meter("cpu"), Meter)


def test_a_gpu_counts_its_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgec.runtime.devices import nvml

    made = nvml.Nvml
    monkeypatch.setattr(nvml, "Nvml", lambda: made(lambda name: FakeNvml()))
    meter = open_meter("cuda:0")
    first, second = meter.read(), meter.read()
    assert first is not None and second is not None and second - first == pytest.approx(2.0)


def test_a_gpu_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgec.runtime.devices import nvml

    def missing() -> None:
        raise nvml.NvmlError("no NVIDIA driver: not found", missing=True)

    monkeypatch.setattr(nvml, "Nvml", missing)
    assert "no NVIDIA driver" in open_meter("cuda:0").problem


def test_a_gpu_that_is_throttled_by_heat_gives_no_number() -> None:
    from edgec.runtime.devices.nvml import Nvml
    from edgec.runtime.measurement.gpu import gpu_reasons, look_at_gpu

    def library(mask: int) -> Nvml:
        return Nvml(lambda name: FakeNvml(throttle=mask))

    cool, capped, hot = (look_at_gpu("cuda:0", lambda mask=mask: library(mask)) for mask in (0x1, 0x4, 0x24))
    assert cool is not None and cool["temperature_c"] == 41 and cool["throttled_by"] == []
    assert gpu_reasons(cool) == [] and gpu_reasons(capped) == []
    assert gpu_reasons(hot) == ["the GPU was throttled: heat"]
    assert look_at_gpu("cpu") is None and gpu_reasons(None) == []
    assert look_at_gpu("cuda:0", lambda: Nvml(lambda name: FakeNvml({"nvmlDeviceGetMemoryInfo": 3}))) is None


def test_memory_on_the_device_is_that_of_the_process_on_all_boards() -> None:
    """NVML does not know CUDA_VISIBLE_DEVICES: the board that CUDA calls 0 may be another one there."""

    def library(gpus: int = 1, broken: dict[str, int] | None = None) -> Callable[[], Nvml]:
        return lambda: Nvml(lambda name: FakeNvml(broken, gpus=gpus))

    held = 123 << 20
    assert device_memory("cuda:0", 77, library()) == held
    assert device_memory("cuda:0", 77, library(gpus=2)) == 2 * held
    assert device_memory("cuda:0", 78, library()) is None, "a process that NVML does not list"
    assert device_memory("cpu", 77, library()) is None
    refusing = {"nvmlDeviceGetComputeRunningProcesses_v3": 3}
    assert device_memory("cuda:0", 77, library(broken=refusing)) is None
