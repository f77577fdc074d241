"""The registry of targets and the rules that they register."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from edgec.errors import EdgecError
from edgec.ir.graph import Node
from edgec.targets import registry, rules
from edgec.targets.base import Target, Verdict
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
    assert registry.names() == ["tflite", "onnxruntime", "broken", "mine", "odd"]
    assert registry.load("mine") is ORT
    assert registry.load("tflite").name == "tflite"
    for name in ("broken", "odd", "absent"):
        with pytest.raises(EdgecError) as caught:
            registry.load(name)
        assert caught.value.code == "EDG003"


def test_a_rule_is_explained_by_its_docstring(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rules, "RULES", {})

    @rules.rule("EDG499", target="mine", title="no Relu")
    def no_relu(node: Node) -> rules.Judgement:
        """Relu is not held, for this test.

        Source: none.
        """
        return rules.unsupported("it is a Relu") if node.op == "Relu" else rules.OK

    assert no_relu(Node("Relu", [], [])).verdict is Verdict.UNSUPPORTED
    assert no_relu(Node("Tanh", [], [])).verdict is Verdict.OK
    from edgec.cli.main import main

    assert main(["explain", "EDG499"]) == 0
    assert "Relu is not held" in capsys.readouterr().out
    with pytest.raises(ValueError, match="EDG499"):
        rules.rule("EDG499", target="mine", title="again")(no_relu)
    with pytest.raises(ValueError, match="docstring"):
        rules.rule("EDG498", target="mine", title="silent")(lambda node: rules.OK)
