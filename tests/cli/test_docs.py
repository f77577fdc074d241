"""The generated pages are what the program says today."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from tests.command import ROOT


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_current() -> None:
    """Run `python docs/generate.py` when this fails."""
    for path, text in generator().pages().items():
        assert path.read_text(encoding="utf-8") == text, path.name


def test_the_errors_page_links_every_code_under_an_exit_code() -> None:
    from edgec.errors import CODES

    page = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    for code, entry in CODES.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| {entry.exit} |"))
        assert f"[{code}](#{code.lower()})" in row
