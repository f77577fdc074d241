"""The latency of one session: a median with its interval, no percentile out of nothing, and honest instability."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.runtime.measurement import LatencyRules, Stability, measure_latency
from edgec.runtime.measurement.statistics import bootstrap, percentiles, samples_for_percentile
from tests.runtime.measurement.synthetic import Machine


@pytest.mark.parametrize(("percentile", "queries"), [(0.9, 23_886), (0.99, 262_742)])
def test_percentiles_need_as_many_samples_as_mlperf_asks_for(percentile: float, queries: int) -> None:
    assert samples_for_percentile(percentile) == queries


def test_no_percentile_is_printed_that_the_samples_cannot_carry() -> None:
    seconds = np.linspace(0, 1, 23_885)
    assert percentiles(seconds) == {}
    assert list(percentiles(np.linspace(0, 1, 23_886))) == ["p90"]
    assert percentiles(np.linspace(0, 1, 262_742))["p99"] == pytest.approx(0.99, abs=1e-4)


def test_a_quiet_machine_gives_a_narrow_interval_around_the_truth() -> None:
    machine = Machine(0, busy=1.0, drift=0.0)
    latency = measure_latency(machine.subject(1e-3, layout=0.0), clock=machine.clock)
    assert latency.status is Stability.STABLE and latency.reasons == ()
    assert latency.median.low <= 1e-3 * 1.01 and latency.median.high >= 1e-3 * 0.99
    assert latency.median.half_width < 0.01
    assert latency.minimum < latency.quartile < latency.median.value
    assert latency.percentiles == {}
    assert latency.runs == 10 * latency.slots


def test_chaos_is_unstable_with_its_reason() -> None:
    machine = Machine(0, busy=4.0, episode_s=1.0)
    latency = measure_latency(machine.subject(0.01, jitter=1.0), LatencyRules(budget_s=2.0), clock=machine.clock)
    assert latency.status is Stability.UNSTABLE
    assert any("half of the median's interval" in reason for reason in latency.reasons)


def test_drift_is_unstable() -> None:
    machine = Machine(0, busy=1.0, drift=5.0)
    latency = measure_latency(machine.subject(1e-3), LatencyRules(budget_s=5.0, half_width=0.0001), clock=machine.clock)
    assert any("thirds" in reason for reason in latency.reasons)


def test_what_happened_to_the_machine_forbids_quoting_the_number() -> None:
    machine = Machine(0, busy=1.0)
    latency = measure_latency(machine.subject(1e-3), clock=machine.clock, reasons=lambda: ["the processor throttled"])
    assert latency.status is Stability.UNSTABLE
    assert latency.reasons[0] == "the processor throttled"


def test_asking_for_percentiles_goes_on_until_they_can_be_said() -> None:
    machine = Machine(0, busy=1.0)
    latency = measure_latency(machine.subject(1e-4), LatencyRules(percentiles=True, budget_s=60.0), clock=machine.clock)
    assert "p90" in latency.percentiles and latency.runs >= 23_886


def test_slow_sessions_end_with_their_budget() -> None:
    machine = Machine(0)
    subject = machine.subject(0.7)
    latency = measure_latency(subject, LatencyRules(budget_s=3.0), clock=machine.clock)
    assert set(subject.slots) == {1}
    assert 3.0 <= latency.seconds < 5.0


def test_the_document_is_json() -> None:
    import json

    machine = Machine(0)
    document = measure_latency(machine.subject(1e-3), LatencyRules(budget_s=1.0), clock=machine.clock).to_json()
    assert json.loads(json.dumps(document)) == document


def test_the_bootstrap_is_the_same_for_the_same_seed() -> None:
    values = np.random.default_rng(3).lognormal(size=(40, 2))
    first, second = (bootstrap(values, 0.5, confidence=0.95, resamples=300, seed=7) for _ in range(2))
    assert first == second
    assert first.low <= first.value <= first.high
