"""The predictor and the decoder against what Google's compiler made of real models."""

from __future__ import annotations

from edgec.targets.base import Verdict
from edgec.targets.edgetpu import TARGET
from edgec.targets.edgetpu.mapping import predict
from edgec.targets.edgetpu.memory import estimate
from edgec.targets.edgetpu.package import decode, leftovers
from edgec.targets.tflite.graph import read
from tests.targets.edgetpu.pairs import pairs


def test_every_operator_is_predicted_where_the_compiler_put_it() -> None:
    operators = uncertain = 0
    for pair in pairs():
        graph = read(pair.source).main
        found = predict(graph)
        assert [node.index for node in found.nodes] == list(range(pair.truth["operators"]))
        doubtful = found.positions(Verdict.UNCERTAIN)
        on_cpu = found.positions(Verdict.UNSUPPORTED)
        assert on_cpu == [index for index in pair.left if index not in doubtful], pair.source.name
        operators += len(found.nodes)
        uncertain += len(doubtful)
    assert uncertain <= 0.02 * operators


def test_parameter_bytes_lie_in_the_predicted_ranges() -> None:
    for pair in pairs():
        graph = read(pair.source).main
        memory = estimate(graph, predict(graph).positions(Verdict.OK))
        assert memory.constants == pair.truth["constant_bytes_of_mapped_operators"]
        assert pair.truth["cached_parameter_bytes"] in memory.cached, pair.source.name
        assert pair.truth["streamed_parameter_bytes"] in memory.streamed, pair.source.name


def test_compiled_models_are_decoded() -> None:
    for pair in pairs():
        compiled = decode(pair.compiled)
        facts = compiled.to_json()
        assert facts["cached_parameter_bytes"] == pair.truth["cached_parameter_bytes"]
        assert facts["streamed_parameter_bytes"] == pair.truth["streamed_parameter_bytes"]
        assert [facts["minimum_runtime_version"]] == pair.truth["minimum_runtime_version"]
        assert facts["chips"] == ["beagle"]
        assert facts["subgraphs_on_device"] == 1
        assert [item.kind for item in compiled.packages[0].executables] == ["execution-only", "parameter-caching"]
        assert leftovers(read(pair.source), [compiled]) == pair.left


def test_inspecting_a_compiled_model_shows_what_it_needs() -> None:
    for pair in pairs():
        facts = TARGET.inspect(pair.compiled)
        assert facts["edgetpu"]["minimum_runtime_version"] >= 12
        assert facts["operators"]["CUSTOM:edgetpu-custom-op"] == 1
