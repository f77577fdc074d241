"""Devices, where there are none and where a library says that there are some."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgec.errors import EdgecError
from edgec.targets.edgetpu import TARGET
from edgec.targets.edgetpu import session as sessions
from edgec.targets.edgetpu.devices import VARIABLE, Device, Probe, probe
from edgec.targets.edgetpu.session import open_session, refused
from tests.targets.edgetpu.synthetic import Net, compiled

LIBRARY = """
#include <stdlib.h>
struct device { int type; const char* path; };
const char* edgetpu_version(void) { return "BuildLabel(TEST), RuntimeVersion(14)"; }
struct device* edgetpu_list_devices(size_t* count) {
  *count = COUNT;
  if (!COUNT) return NULL;
  struct device* made = malloc(2 * sizeof(struct device));
  made[0].type = 0; made[0].path = "/dev/apex_0";
  made[1].type = 1; made[1].path = "/sys/bus/usb/devices/2-1";
  return made;
}
void edgetpu_free_devices(struct device* made) { free(made); }
"""


def library(folder: Path, count: int) -> Path:
    """A shared library with the C interface of libedgetpu."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here to make a stub of libedgetpu")
    source = folder / "stub.c"
    source.write_text(LIBRARY)
    made = folder / f"libstub{count}.so"
    command = [compiler, "-shared", "-fPIC", f"-DCOUNT={count}", "-o", str(made), str(source)]
    subprocess.run(command, check=True, timeout=60)
    return made


@pytest.fixture
def model(tmp_path: Path) -> Path:
    net = Net()
    source = net.write(tmp_path / "model.tflite", net.convolution(net.input(1, 4, 4, 4), 4, "end"))
    return compiled(source, tmp_path / "model_edgetpu.tflite")


def test_no_library(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "absent.so"))
    found = probe()
    assert found.problem
    assert not found.devices
    with pytest.raises(EdgecError) as caught:
        open_session(model)
    assert (caught.value.code, caught.value.exit_code) == ("EDG520", 5)
    assert not TARGET.runs_here()


def test_a_library_without_devices(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(library(tmp_path, 0)))
    found = probe()
    assert "RuntimeVersion(14)" in found.version
    assert found.devices == ()
    with pytest.raises(EdgecError) as caught:
        open_session(model)
    assert (caught.value.code, caught.value.exit_code) == ("EDG521", 5)


def test_devices_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(library(tmp_path, 2)))
    assert probe().devices == (Device("pci", "/dev/apex_0"), Device("usb", "/sys/bus/usb/devices/2-1"))
    assert TARGET.runs_here()
    findings = {item.subject: item for item in TARGET.doctor()}
    assert "/dev/apex_0" in findings["devices"].detail


def test_another_library(tmp_path: Path, model: Path) -> None:
    assert "no libedgetpu" in probe("libc.so.6").problem
    with pytest.raises(EdgecError) as caught:
        open_session(model, library="libc.so.6")
    assert caught.value.code == "EDG520"


def test_a_device_that_cannot_be_opened(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """load_delegate then says: Failed to load delegate from ..."""

    def load(name: str, options: dict[str, str]) -> None:
        assert options == {"device": "usb:1"}
        raise ValueError(f"Failed to load delegate from {name}")

    monkeypatch.setattr(sessions, "probe", lambda name: Probe("libedgetpu.so.1", "14", (Device("pci", "/dev/apex_0"),)))
    monkeypatch.setattr(sessions, "load_delegate", load)
    with pytest.raises(EdgecError) as caught:
        open_session(model, device="usb:1")
    assert caught.value.code == "EDG521"
    assert "/dev/apex_0" in (caught.value.why or "")


def test_what_liteRT_says_of_compiled_models() -> None:
    texts = {
        "Package requires runtime version (14), which is newer than this runtime version (13).": "EDG512",
        "Encountered unresolved custom op: edgetpu-custom-op.": "EDG520",
        "something else": "EDG302",
    }
    for text, code in texts.items():
        assert refused("model_edgetpu.tflite", text).code == code


def test_doctor_needs_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "absent.so"))
    assert all(finding.ok for finding in TARGET.doctor())
