"""The real Vela, where it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.targets.ethosu import compiler


def need_vela() -> Path:
    """Vela's path; the test is skipped where it is not installed."""
    found = compiler.find()
    if found is None:
        pytest.skip(f"no Vela: {compiler.TOOL.install}, or name it in ${compiler.TOOL.variable}")
    return found
