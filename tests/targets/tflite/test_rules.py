"""The codes under which LiteRT refuses nodes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgec.errors import CODES
from edgec.targets import registry
from edgec.targets.base import TargetOptions
from edgec.targets.rules import RULES, rules_of
from tests.command import ROOT
from tests.ir.equivalence import model_of

SOURCES = [path for path in (ROOT / "edgec/targets/tflite").rglob("*.py") if path.name != "rules.py"]
CASES = {
    "EDG203": "g (float[2] x, bool c) => (float[2] y) "
    "{ y = If(c)<then_branch = a () => (float[2] u) { u = Relu(x) }, "
    "else_branch = b () => (float[2] v) { v = Neg(x) }> }",
    "EDG231": "g (float[2,3] x) => (float[2,3] y) { y = Bernoulli(x) }",
    "EDG401": "g (float[2,3,1,1] x, int64[1] a) => (float[?,?,?] y) { y = Squeeze(x, a) }",
    "EDG402": "g (float[N,1,3] x) => (float[?,?] y) { y = Squeeze(x) }",
    "EDG403": "g (double[2,3] x) => (double[2,3] y) { y = Relu(x) }",
    "EDG404": "g (float[1,1,4,4,4,4] x, float[1,1,1,1,1,1] w) => (float[1,1,4,4,4,4] y) { y = Conv(x, w) }",
    "EDG405": "g (float[9999,1,1] x, float[1,1,1] w, float[1,1,1] r) => (float[9999,1,1,1] y) "
    "{ y = RNN<hidden_size = 1>(x, w, r) }",
    "EDG406": "g (float[4] x, int64[2] i, float[2] u) => (float[4] y) "
    '{ y = ScatterElements<reduction = "what">(x, i, u) }',
    "EDG407": "g (seq(float[2]) x) => (float[2] y) <int64 i = {0}> { y = SequenceAt(x, i) }",
}


@pytest.mark.parametrize("code", CASES)
def test_a_node_is_refused_under_the_code_of_its_reason(code: str) -> None:
    refusals = registry.load("tflite").refusals(model_of(CASES[code]), TargetOptions())
    assert code in {refusal.rule for refusal in refusals}, refusals
    assert all(refusal.reason for refusal in refusals)


def test_every_code_that_is_used_is_defined_and_every_rule_is_used() -> None:
    used = {code for path in SOURCES for code in re.findall(r"EDG\d{3}", path.read_text(encoding="utf-8"))}
    assert used <= CODES.keys() | RULES.keys()
    assert {rule.code for rule in rules_of("tflite")} <= used


def test_every_lowering_says_what_it_writes() -> None:
    page = Path(ROOT / "docs/support/tflite.md").read_text(encoding="utf-8")
    assert not re.search(r"\| *\| *$", page, flags=re.MULTILINE)
