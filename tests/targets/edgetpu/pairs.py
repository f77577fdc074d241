"""Real models and what Google's compiler made of them, where they are at hand.

The folder is `$EDGEC_EDGETPU_PAIRS`, or `shared/data/edgetpu` beside the checkout.  It holds files of
github.com/google-coral/test_data (Apache-2.0) and mapping.json, which says what stayed on the CPU.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.command import ROOT

FOLDER = Path(os.environ.get("EDGEC_EDGETPU_PAIRS") or ROOT.parent / "shared/data/edgetpu")


@dataclass(frozen=True)
class Pair:
    """A source, its compiled form, and the truth about them."""

    source: Path
    compiled: Path
    truth: dict[str, Any]

    @property
    def left(self) -> list[int]:
        return [entry["index"] for entry in self.truth["left_on_cpu"]]


def pairs() -> list[Pair]:
    """All pairs; the test is skipped where they are not at hand."""
    listed = FOLDER / "mapping.json"
    if not listed.is_file():
        pytest.skip(f"no real pairs: '{FOLDER.name}' is not at hand, set EDGEC_EDGETPU_PAIRS")
    found = json.loads(listed.read_text(encoding="utf-8"))
    return [Pair(FOLDER / entry["source"], FOLDER / entry["compiled"], entry) for entry in found]


def pair(name: str) -> Pair:
    """The pair whose source's name starts so."""
    return next(item for item in pairs() if item.source.name.startswith(name))
