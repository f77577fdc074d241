"""The registry of targets and the rules that they register."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from edgec.errors import EdgecError
from edgec.targets import registry, rules
from edgec.targets.base import Target
from edgec.targets.onnxruntime import TARGET as ORT


@pytest.fixture(autouse=True)
def fresh() -> None:
    registry.locations.cache_clear()


def test_built_in_targets_load() -> None:
    for name in registry.BUILT_IN:
        target = registry.load(name)
        assert isinstance(target, Target)
        assert target.name == name


def test_a_plug_in_is_found_and_cannot_replace_a_built_in_target(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        EntryPoint("mine", "edgec.targets.onnxruntime:TARGET", registry.GROUP),
        EntryPoint("tflite", "edgec.targets.onnxruntime:TARGET", registry.GROUP),
        EntryPoint("broken", "edgec.absent:TARGET", registry.GROUP),
        EntryPoint("odd", "edgec.errors:CODES", registry.GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: found)
    assert registry.names() == [*registry.BUILT_IN, "broken", "mine", "odd"]
    assert registry.load("mine") is ORT
    assert registry.load("tflite").name == "tflite"
    for name in ("broken", "odd", "absent"):
        with pytest.raises(EdgecError) as caught:
            registry.load(name)
        assert caught.value.code == "EDG003"


def test_a_rule_is_explained_by_its_documentation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rules, "RULES", {})
    documentation = "Relu is not held, for this test.\n\nSource: none."
    rules.define("EDG499", target="mine", title="no Relu", documentation=documentation)
    assert [rule.code for rule in rules.rules_of("mine")] == ["EDG499"]
    from edgec.cli.main import main

    assert main(["explain", "EDG499"]) == 0
    assert "Relu is not held" in capsys.readouterr().out
    for code in ("EDG499", "EDG231", "TFL7"):
        with pytest.raises(ValueError, match=code):
            rules.define(code, target="mine", title="again", documentation=documentation)
    with pytest.raises(ValueError, match="source"):
        rules.define("EDG498", target="mine", title="silent", documentation="Nobody said so.")
