"""The version of the package; pyproject.toml holds the same and a test keeps them together."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
