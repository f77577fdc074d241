"""Every kind of device answers present, absent, or present but unusable because of something; nothing raises."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgec.runtime.devices import KINDS, Host, State, probe
from edgec.runtime.devices.ascend import rows
from edgec.runtime.devices.base import failure, run_tool, summary
from edgec.runtime.devices.nvml import Nvml, NvmlError
from tests.runtime.devices.fakes import FakeNvml, crashed, host, said

PLATFORM = {
    "name": "Portable Computing Language",
    "vendor": "The pocl project",
    "version": "OpenCL 3.0",
    "devices": [
        {
            "name": "pthread",
            "vendor": "AuthenticAMD",
            "version": "OpenCL 3.0",
            "driver": "3.1",
            "type": "CPU",
            "compute_units": 2,
            "memory": 1 << 33,
            "available": True,
            "compiler": True,
            "float16": False,
        }
    ],
}


def opencl(*platforms: dict[str, object], problem: str = "") -> dict[str, object]:
    return {"opencl_list.py": said(json.dumps({"platforms": platforms, "problem": problem}) + "\n")}


def with_device(**changes: object) -> dict[str, object]:
    return {**PLATFORM, "devices": [{**PLATFORM["devices"][0], **changes}]}  # type: ignore[dict-item]


@pytest.mark.parametrize("kind", KINDS)
def test_this_machine_answers(kind: str) -> None:
    report = probe(kind)
    assert report.title and report.state in State
    assert (report.state is State.PRESENT) == any(device.state is State.PRESENT for device in report.devices)
    assert report.reason or report.state is State.PRESENT


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "cpu"])
def test_an_empty_machine_has_nothing_and_says_why(kind: str, tmp_path: Path) -> None:
    report = probe(kind, host(tmp_path))
    assert report.state is State.ABSENT and report.reason and not report.devices


# processors


def test_the_processor_of_this_machine_is_present() -> None:
    report = probe("cpu")
    (device,) = report.devices
    assert report.state is State.PRESENT and device.address == "cpu"
    assert device.memory is not None and device.memory > 1 << 28
    assert 0 < device.facts["usable"] <= (os.cpu_count() or 1)


def test_a_processor_in_a_container_with_limits(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": "processor : 0\nmodel name : AMD EPYC 9754\nflags : sse4_2 avx avx2 avx512f avx512_vnni\n",
        "proc/meminfo": "MemTotal: 1048576 kB\n",
        "proc/self/cgroup": "0::/job/inner\n",
        "sys/fs/cgroup/job/cpu.max": "150000 100000",
        "sys/fs/cgroup/job/memory.max": "536870912",
        "sys/fs/cgroup/job/inner/cpu.max": "max 100000",
        "sys/fs/cgroup/job/inner/memory.max": "max",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2100000",
    }
    (device,) = probe("cpu", host(tmp_path, files)).devices
    assert device.name == "AMD EPYC 9754"
    assert device.capability.endswith("limited to 1.5; avx512f avx512_vnni")
    assert device.memory == 512 << 20
    assert device.facts["quota"] == 1.5
    assert device.facts["governors"] == ["powersave"] and device.facts["clock_mhz"] == [2100.0]


def test_a_container_of_the_older_kind(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/box\n2:cpu,cpuacct:/box\n",
        "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "50000",
        "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": str(1 << 28),
    }
    (device,) = probe("cpu", host(tmp_path, files)).devices
    assert device.facts["quota"] == 0.5 and device.facts["memory_limit"] == 1 << 28


def test_an_arm_processor_has_numbers_instead_of_a_name(tmp_path: Path) -> None:
    files = {"proc/cpuinfo": "CPU implementer : 0x41\nCPU part : 0xd40\nFeatures : fp asimd asimddp i8mm sve\n"}
    (device,) = probe("cpu", host(tmp_path, files)).devices
    assert device.name == "Arm implementer 0x41 part 0xd40"
    assert device.capability.endswith("asimd asimddp i8mm sve")


# NVIDIA


def nvidia(tmp_path: Path, library: FakeNvml, files: dict[str, str] | None = None) -> Host:
    return host(tmp_path, files or {"dev/nvidia0": ""}, libraries={"libnvidia-ml.so.1": library})


def test_a_gpu_that_works(tmp_path: Path) -> None:
    report = probe("nvidia", nvidia(tmp_path, FakeNvml()))
    (device,) = report.devices
    assert report.state is State.PRESENT
    assert (device.name, device.address) == ("NVIDIA H100", "cuda:0")
    assert device.capability == "compute capability 9.0" and device.memory == 80 << 30
    assert device.driver == "NVIDIA 580.65, CUDA 13.0"
    assert device.facts["temperature_c"] == 41


def test_a_driver_without_device_files_cannot_be_used(tmp_path: Path) -> None:
    report = probe("nvidia", nvidia(tmp_path, FakeNvml(), {"other": ""}))
    assert report.state is State.UNUSABLE and "no /dev/nvidia*" in report.reason
    assert "--gpus" in report.help


@pytest.mark.parametrize("function", ["nvmlInit_v2", "nvmlDeviceGetCount_v2", "nvmlSystemGetCudaDriverVersion"])
def test_a_driver_that_refuses_is_unusable_with_its_reason(tmp_path: Path, function: str) -> None:
    report = probe("nvidia", nvidia(tmp_path, FakeNvml({function: 18})))
    assert report.state is State.UNUSABLE and f"{function}: status 18" in report.reason


def test_one_broken_gpu_does_not_hide_the_others(tmp_path: Path) -> None:
    report = probe("nvidia", nvidia(tmp_path, FakeNvml(gpus=2, lost=0)))
    assert report.state is State.PRESENT
    assert [device.state for device in report.devices] == [State.UNUSABLE, State.PRESENT]
    assert "status 15" in report.devices[0].reason


def test_a_driver_without_a_gpu(tmp_path: Path) -> None:
    report = probe("nvidia", nvidia(tmp_path, FakeNvml(gpus=0)))
    assert report.state is State.UNUSABLE and "lists no GPU" in report.reason


def test_a_card_without_a_driver(tmp_path: Path) -> None:
    report = probe("nvidia", host(tmp_path, {"sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n"}))
    assert report.state is State.UNUSABLE
    assert report.reason.startswith("there is a card, but no NVIDIA driver")


def test_a_driver_that_is_too_old_is_named() -> None:
    class Old:
        def nvmlInit_v2(self) -> int:
            return 0

    with pytest.raises(NvmlError, match=r"too old.*nvmlDeviceGetCount_v2"):
        Nvml(lambda name: Old()).count()


def test_memory_of_one_process() -> None:
    library = Nvml(lambda name: FakeNvml())
    assert library.process_memory(0, 77) == 123 << 20
    assert library.process_memory(0, 78) is None


# OpenCL and what stands on it


def test_opencl_devices_are_listed(tmp_path: Path) -> None:
    report = probe("opencl", host(tmp_path, tools=opencl(PLATFORM)))
    (device,) = report.devices
    assert report.state is State.PRESENT
    assert device.address == "opencl:0.0" and "2 compute units" in device.capability


def test_an_opencl_driver_without_a_compiler_cannot_be_used(tmp_path: Path) -> None:
    report = probe("opencl", host(tmp_path, tools=opencl(with_device(compiler=False))))
    assert report.state is State.UNUSABLE and "no compiler" in report.reason


def test_an_opencl_driver_that_crashes_is_not_our_crash(tmp_path: Path) -> None:
    files = {"etc/OpenCL/vendors/pocl.icd": "libpocl.so"}
    report = probe("opencl", host(tmp_path, files, tools={"opencl_list.py": crashed("SIGSEGV")}))
    assert report.state is State.UNUSABLE
    assert "/etc/OpenCL/vendors/pocl.icd" in report.reason and "SIGSEGV" in report.reason


def test_an_opencl_driver_that_prints_nonsense(tmp_path: Path) -> None:
    report = probe("opencl", host(tmp_path, tools={"opencl_list.py": said("hello")}))
    assert report.state is State.ABSENT and "no answer" in report.reason


def test_a_platform_without_devices(tmp_path: Path) -> None:
    report = probe("opencl", host(tmp_path, tools=opencl({**PLATFORM, "devices": []})))
    assert report.state is State.UNUSABLE and "without a device" in report.reason


def test_a_loader_without_drivers(tmp_path: Path) -> None:
    report = probe("opencl", host(tmp_path, tools=opencl()))
    assert report.state is State.ABSENT and "finds no driver" in report.reason


def test_a_mali_with_opencl(tmp_path: Path) -> None:
    report = probe("mali", host(tmp_path, tools=opencl(with_device(name="Mali-G710", type="GPU"))))
    assert report.state is State.PRESENT and report.devices[0].name == "Mali-G710"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"dev/mali0": ""}, "/dev/mali0 is there, but OpenCL lists no Mali"),
        ({"sys/class/drm/renderD128/device/uevent": "DRIVER=panfrost\n"}, "panfrost"),
    ],
)
def test_a_mali_that_opencl_does_not_reach(tmp_path: Path, files: dict[str, str], words: str) -> None:
    report = probe("mali", host(tmp_path, files))
    assert report.state is State.UNUSABLE and words in report.reason and "libmali" in report.help


def test_a_device_file_that_may_not_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    report = probe("mali", host(tmp_path, {"dev/mali0": ""}))
    assert "/dev/mali0 may not be opened by this user" in report.reason


def test_the_fpga_emulator_is_an_fpga(tmp_path: Path) -> None:
    platform = {**with_device(type="accelerator"), "name": "Intel(R) FPGA Emulation Platform for OpenCL(TM)"}
    report = probe("fpga", host(tmp_path, tools=opencl(PLATFORM, platform)))
    assert report.state is State.PRESENT and len(report.devices) == 1


def test_an_fpga_board_without_its_runtime(tmp_path: Path) -> None:
    report = probe("fpga", host(tmp_path, {"dev/dfl-fme.0": ""}))
    assert report.state is State.UNUSABLE and "/dev/dfl-fme.0 is there" in report.reason


def test_the_fpga_sdk_without_a_board(tmp_path: Path) -> None:
    report = probe("fpga", host(tmp_path, tools={"aocl": said("aocl 21.4")}))
    assert report.state is State.UNUSABLE and "aocl 21.4" in report.reason


# Vulkan


def vulkan(**document: object) -> dict[str, object]:
    return {"vulkan_list.py": said(json.dumps({"devices": [], "problem": "", **document}))}


def test_vulkan_devices_are_listed(tmp_path: Path) -> None:
    entry = {"name": "SwiftShader", "api": "1.3.0", "driver": "0x1", "vendor": "0x1ae0", "device": "0xc0de"}
    report = probe("vulkan", host(tmp_path, tools=vulkan(devices=[{**entry, "type": "CPU", "memory": 1 << 32}])))
    (device,) = report.devices
    assert report.state is State.PRESENT and device.capability == "CPU, Vulkan 1.3.0" and device.memory == 1 << 32


def test_a_vulkan_driver_that_does_not_start(tmp_path: Path) -> None:
    files = {"usr/share/vulkan/icd.d/lvp_icd.json": "{}"}
    report = probe("vulkan", host(tmp_path, files, tools=vulkan(problem="vkCreateInstance: error -9")))
    assert report.state is State.UNUSABLE and "lvp_icd.json" in report.reason


def test_a_vulkan_driver_that_crashes(tmp_path: Path) -> None:
    report = probe("vulkan", host(tmp_path, tools={"vulkan_list.py": crashed("SIGILL")}))
    assert report.state is State.ABSENT and "SIGILL" in report.reason


def test_the_memory_of_a_vulkan_device_is_that_of_its_own_heaps() -> None:
    import struct

    from edgec.runtime.devices.vulkan_list import local_memory

    raw = bytearray(520)
    struct.pack_into("=I", raw, 260, 2)
    struct.pack_into("=QI", raw, 264, 8 << 30, 1)
    struct.pack_into("=QI", raw, 280, 16 << 30, 0)
    assert local_memory(bytes(raw)) == 8 << 30


# NPUs

SMI = """
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     910B3               | OK            | 93.6        40                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3306 / 65536         |
| 1     910B3               | Alarm         | 93.6        40                0    / 0             |
+---------------------------+---------------+----------------------------------------------------+
"""


def test_ascend_npus_have_the_names_of_npu_smi(tmp_path: Path) -> None:
    assert rows(SMI) == {0: ("910B3", "OK"), 1: ("910B3", "Alarm")}
    files = {"dev/davinci0": "", "dev/davinci1": "", "dev/davinci_manager": ""}
    machine = host(tmp_path, files, libraries={"libascendcl.so": object()}, tools={"npu-smi": said(SMI)})
    report = probe("ascend", machine)
    assert report.state is State.PRESENT
    assert [(device.name, device.state) for device in report.devices] == [
        ("Ascend910B3", State.PRESENT),
        ("Ascend910B3", State.UNUSABLE),
    ]
    assert "Alarm" in report.devices[1].reason


def test_an_ascend_npu_without_cann(tmp_path: Path) -> None:
    report = probe("ascend", host(tmp_path, {"dev/davinci0": ""}, tools={"npu-smi": said("", 1)}))
    assert report.state is State.UNUSABLE and "run-time library" in report.reason and "CANN" in report.help


def test_npu_smi_without_an_npu(tmp_path: Path) -> None:
    report = probe("ascend", host(tmp_path, tools={"npu-smi": said("")}))
    assert report.state is State.UNUSABLE and "no /dev/davinci0" in report.reason


def test_a_snapdragon(tmp_path: Path) -> None:
    files = {"dev/fastrpc-cdsp": "", "sys/devices/soc0/machine": "QCS8550", "sys/devices/soc0/soc_id": "603"}
    report = probe("qualcomm", host(tmp_path, files, libraries={"libQnnHtp.so": object()}))
    (device,) = report.devices
    assert report.state is State.PRESENT
    assert (device.name, device.capability) == ("QCS8550", "soc id 603")


def test_a_snapdragon_without_software(tmp_path: Path) -> None:
    report = probe("qualcomm", host(tmp_path, {"dev/fastrpc-cdsp": ""}))
    assert report.state is State.UNUSABLE and "libQnnHtp.so" in report.reason


def test_an_ethos_u_on_linux(tmp_path: Path) -> None:
    assert probe("ethosu", host(tmp_path, {"dev/ethosu0": ""})).state is State.PRESENT
    assert "microcontrollers" in probe("ethosu", host(tmp_path / "none")).reason


# the parts that they share


def test_a_tool_that_is_not_there_is_none() -> None:
    assert run_tool(("no-such-tool-at-all",)) is None
    outcome = run_tool(("sh", "-c", "exit 3"))
    assert outcome is not None and failure(outcome) == "it ended with status 3"


def test_no_device_is_absent() -> None:
    assert summary("x", "X", (), "because").state is State.ABSENT
