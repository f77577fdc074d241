"""Packages that bring a module under another name."""

from __future__ import annotations

import importlib.metadata
from importlib.metadata import PackageNotFoundError

import pytest

from edgec.runtime import packages
from tests.command import edgec


def only(monkeypatch: pytest.MonkeyPatch, **there: str) -> None:
    """Nothing is installed but these."""

    def version(name: str) -> str:
        if name.replace("-", "_") not in there:
            raise PackageNotFoundError(name)
        return there[name.replace("-", "_")]

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_onnx_runtime_with_cuda_is_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its package is onnxruntime-gpu; doctor said that onnxruntime was not installed, and a study that it had gone."""
    only(monkeypatch, onnxruntime_gpu="1.31.1")
    assert packages.installed("onnxruntime") == ("onnxruntime-gpu", "1.31.1")
    assert packages.described("onnxruntime") == "1.31.1 (onnxruntime-gpu)"
    from edgec.converter.manifest import versions
    from edgec.targets import registry

    assert versions()["onnxruntime"] == "1.31.1"
    (found,) = registry.load("onnxruntime").doctor()
    assert found.ok and found.detail.startswith("1.31.1 (onnxruntime-gpu)")


def test_what_is_not_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, onnxruntime="1.32.0")
    assert packages.described("onnxruntime") == "1.32.0"
    assert packages.installed("ai-edge-litert") is None and packages.described("ai-edge-litert") is None


def test_doctor_names_the_version_that_is_installed_here() -> None:
    line = next(line for line in edgec("doctor").stdout.splitlines() if " onnxruntime " in line)
    assert line.startswith("ok") and str(packages.described("onnxruntime")) in line
