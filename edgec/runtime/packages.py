"""Which version of a package is installed, under whatever name it was installed.

ONNX Runtime's module comes from one of several packages: ``onnxruntime`` for the CPU, and one for each family of
execution providers.
"""

from __future__ import annotations

from typing import Final

ALSO: Final = {
    "onnxruntime": (
        "onnxruntime-gpu",
        "onnxruntime-directml",
        "onnxruntime-openvino",
        "onnxruntime-qnn",
        "onnxruntime-migraphx",
        "onnxruntime-training",
    )
}
"""Package to the others that bring the same module."""


def installed(package: str) -> tuple[str, str] | None:
    """The name and the version of the installed package that brings what `package` does; None where none is."""
    from importlib.metadata import PackageNotFoundError, version  # the processes that run sessions do without it

    for name in (package, *ALSO.get(package, ())):
        try:
            return name, version(name)
        except PackageNotFoundError:
            continue
    return None


def described(package: str) -> str | None:
    """``1.31.1``, or ``1.31.1 (onnxruntime-gpu)`` where it has another name."""
    found = installed(package)
    if found is None:
        return None
    name, number = found
    return number if name == package else f"{number} ({name})"
