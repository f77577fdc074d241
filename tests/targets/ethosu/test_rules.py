"""Each rule on a small graph of its own: what edgec says, and what Vela does with the same graph."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.errors import EdgecError
from edgec.ir.types import DataType
from edgec.targets import rules as registry
from edgec.targets.ethosu.compiler import compile_model
from edgec.targets.ethosu.hardware import ACCELERATORS
from edgec.targets.ethosu.mapping import predict
from edgec.targets.ethosu.options import VelaOptions
from edgec.targets.ethosu.rules import RULES
from edgec.targets.tflite.graph import read
from edgec.targets.tflite.program import T
from tests.targets.edgetpu.synthetic import Net
from tests.targets.ethosu.cases import CASES, OK, UNCERTAIN, UNSUPPORTED, Case, reshaped_by_shape
from tests.targets.ethosu.vela import need_vela

U55, U85 = "ethos-u55-128", "ethos-u85-256"
by_name = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@by_name
def test_the_verdict(case: Case, tmp_path: Path) -> None:
    net = Net()
    graph = net.graph(tmp_path, case.build(net))
    for accelerator, wanted in ((U55, case.u55), (U85, case.u85)):
        node = predict(graph, [ACCELERATORS[accelerator]]).nodes[-1]
        assert node.verdict is wanted, (accelerator, node)
        assert node.rule == ("" if wanted is OK else case.code)
        assert bool(node.reason) is (wanted is not OK)
    together = predict(graph).nodes[-1]
    assert together.verdict is (case.u55 if case.u55 is case.u85 else UNCERTAIN)


@pytest.mark.parametrize("accelerator", [U55, U85])
def test_vela_does_the_same(accelerator: str, tmp_path: Path) -> None:
    """What edgec calls ok runs on the NPU, what it calls unsupported does not: all cases in one graph."""
    need_vela()
    net = OneByOne()
    cases = [case for case in CASES if not case.alone]
    results = []
    for number, case in enumerate(cases):
        net.prefix = f"{number}/"
        results.append(case.build(net))
    model = net.write(tmp_path / "model.tflite", *results)
    result = compile_model(model, tmp_path, VelaOptions(accelerator=accelerator))
    left = {read(model).main.operators[position].name for position, _ in result.left}
    assert not any(code in ("SHAPE", "PACK") for _, code, _ in result.compiled.left)
    found = {case.name: UNSUPPORTED if tensor.name in left else OK for case, tensor in zip(cases, results)}
    wanted = {case.name: case.u85 if accelerator == U85 else case.u55 for case in cases}
    assert {name: verdict for name, verdict in found.items() if wanted[name] not in (verdict, UNCERTAIN)} == {}


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES if case.alone])
def test_vela_refuses_the_whole_model(case: Case, tmp_path: Path) -> None:
    need_vela()
    net = Net()
    model = net.write(tmp_path / "model.tflite", case.build(net))
    with pytest.raises(EdgecError) as caught:
        compile_model(model, tmp_path, VelaOptions(accelerator=U55))
    assert (caught.value.code, caught.value.exit_code) == ("EDG511", 6)
    assert caught.value.why


class OneByOne(Net):
    """Graphs beside each other: the names of each begin with a prefix of its own."""

    prefix = ""

    def input(self, *shape: int, dtype: DataType = DataType.INT8, name: str = "x") -> T:
        return super().input(*shape, dtype=dtype, name=self.prefix + name)


def test_what_only_computes_a_shape_is_ok(tmp_path: Path) -> None:
    net = Net()
    nodes = predict(net.graph(tmp_path, reshaped_by_shape(net))).nodes
    assert [(node.operator, node.verdict) for node in nodes] == [
        ("SHAPE", OK),
        ("STRIDED_SLICE", OK),
        ("PACK", OK),
        ("RESHAPE", OK),
    ]


def test_every_rule_has_a_case_and_a_documentation() -> None:
    cases = {case.code for case in CASES}
    for rule in RULES:
        assert rule.code in cases or rule.code == "EDG432", rule.code
        assert "\nSource: " in registry.RULES[rule.code].documentation
