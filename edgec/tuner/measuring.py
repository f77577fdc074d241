"""Real measurements on this machine: artifacts in worker processes, interleaved with another configuration's."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from edgec.converter.calibration.mixed.loss import Judge
from edgec.errors import EXIT_TOOL_MISSING, EXIT_USAGE, EdgecError, VerificationError
from edgec.runtime.isolation import Workers
from edgec.runtime.lease import device_of
from edgec.runtime.measurement import (
    Duel,
    DuelRules,
    LatencyRules,
    Status,
    Subject,
    WarmUp,
    measure_latency,
    open_subject,
)
from edgec.runtime.measurement.floor import Floor, cached_floor, floor_key, keep_floor, measure_floor
from edgec.runtime.measurement.gpu import device_memory
from edgec.runtime.measurement.processors import in_pairs, one_processor, place_of
from edgec.targets.base import SessionSpec, Target
from edgec.targets.knobs import Configuration, Setting
from edgec.tuner.conversions import Conversion, Conversions, Source
from edgec.tuner.goals import DEVICE_MEMORY
from edgec.tuner.measurements import Race, Reference, Standing
from edgec.tuner.samples import Samples, as_artifact, as_model
from edgec.tuner.space import Space, key_of
from edgec.tuner.trials import KILLED, LOST, TrialFailed

BELIEVED: Final = 6
"""Blocks from which on an interval is believed enough to give a candidate up."""
ROUND: Final = 3
"""Blocks between two looks at the standing."""
OUT_OF_MEMORY: Final = re.compile(r"bad_alloc|out of memory|cannot allocate|failed to allocate|MemoryError", re.I)


TRIAL: Final = DuelRules(budget_s=3.0, wide_blocks=BELIEVED)
CONFIRMATION: Final = DuelRules(budget_s=20.0, minimum_blocks=30, minimum_s=2.0)
ALONE: Final = LatencyRules(budget_s=4.0)
WARM_UP: Final = WarmUp(limit_s=3.0)


@dataclass(frozen=True)
class Rules:
    """How long things may take.

    Attributes:
        duel: of a trial; the confirmation takes :attr:`confirmation`.
        latency: of the default alone.
        timeout_s: longest time for loading, or for any one request to a worker.
        memory_limit: bytes of address space of a worker.
    """

    duel: DuelRules = TRIAL
    confirmation: DuelRules = CONFIRMATION
    latency: LatencyRules = ALONE
    warm_up: WarmUp = WARM_UP
    timeout_s: float = 120.0
    memory_limit: int | None = None


@dataclass
class LocalMeasurements:
    """Artifacts on this machine; see :class:`edgec.tuner.measurements.Measurements`.

    Attributes:
        session: session options of every configuration, such as the provider.
        judges_drop: whether the loss of quality is asked for.
        per_sample: whether the winner is the one that takes less time per sample, so that a confirmation has to be sure
            of that ratio: a batch of 8 takes 6 times as long as a single one, which is far from 1, and gains little.
        lease: a context manager that holds the device, and tells how many seconds it was waited for.
    """

    target: Target
    space: Space
    conversions: Conversions
    source: Source
    samples: Samples
    session: Mapping[str, Setting]
    rules: Rules = Rules()
    judges_drop: bool = False
    per_sample: bool = False
    lease: Callable[[], contextlib.AbstractContextManager[float]] = lambda: contextlib.nullcontext(0.0)
    basis: str = "measured"
    waited_s: float = 0.0

    def __post_init__(self) -> None:
        self._drops: dict[str, float] = {}
        self._pin: Configuration | None = None
        self._incumbent: Subject | None = None
        self._processor: int | None = None
        self._device = device_of(self.session)

    @property
    def waits_for_a_device(self) -> bool:
        """Whether a host launches and a device computes, so that what slows one down need not slow down the other."""
        return self._device.startswith("cuda")

    # quality

    def drop(self, configuration: Configuration) -> float | None:
        """Convert; and, where it is asked for, run the samples and compare with the original model."""
        conversion = self.conversions.get(configuration)
        if not self.judges_drop:
            return None
        key = key_of(self.space.conversion(configuration))
        if key not in self._drops:
            self._drops[key] = self._judge(configuration, conversion)
        return self._drops[key]

    def _judge(self, configuration: Configuration, conversion: Conversion) -> float:
        batch = configuration.get("batch", self.source.batch)
        size = batch if isinstance(batch, int) else None
        given, expected, labels = self.samples.judged(size, self.source.batch)
        spec = self.target.session(conversion.artifact)
        with self._refusing(configuration), Workers(timeout_s=self.rules.timeout_s) as host:
            session = host.open(spec.factory, conversion.artifact, dict(spec.options))
            found = [as_model(session.run(as_artifact(feeds, conversion)), conversion) for feeds in given]
        return max(Judge(expected, labels).loss(found).value, 0.0)

    # time

    def reference(self, configuration: Configuration) -> Reference:
        """Open the default, and measure it alone."""
        self.pin(configuration)
        with self._leased():
            subject = self._pinned()
            with self._refusing(configuration):
                listening = _Listening(subject)
                found = measure_latency(listening, self.rules.latency)
                memory = subject.peak_memory.added
            extra = {**self.conversions.get(configuration).described, **self._on_device(subject)}
        samples = tuple(value * 1e3 for value in listening.heard)
        note = None if found.status == "stable" else f"unstable: {'; '.join(found.reasons)}"
        median = found.median
        return Reference(median.value * 1e3, median.low * 1e3, median.high * 1e3, memory, samples, note, extra)

    def pin(self, configuration: Configuration) -> None:
        """It is opened when the first race needs it, and what was pinned before is closed."""
        if self._pin is None or key_of(self._pin) != key_of(configuration):
            self._unpin()
        self._pin = configuration

    @contextlib.contextmanager
    def race(
        self, configuration: Configuration, *, against: Configuration | None = None, fresh: bool = False
    ) -> Iterator[Race]:
        """Open a configuration beside the pinned one, which stays open, or beside another."""
        self.conversions.get(configuration)
        with self._leased(), contextlib.ExitStack() as opened:
            if fresh:
                self._unpin()
            if against is None:
                incumbent = self._pinned()
                processor = self._processor
            else:
                processor = one_processor(self._device)
                incumbent = opened.enter_context(self._warm(against, processor))
            candidate = opened.enter_context(self._warm(configuration, processor))
            rules = self.rules.confirmation if fresh else self.rules.duel
            scale = 1.0
            if fresh and self.per_sample:
                scale = self._samples(self._pin if against is None else against) / self._samples(configuration)
            yield _Running(self, configuration, incumbent, candidate, rules, scale)

    def floor(
        self,
        configuration: Configuration,
        progress: Callable[[int, Any], object] | None = None,
        *,
        rules: DuelRules | None = None,
        keep: bool = True,
        anew: bool = False,
    ) -> Floor:
        """The device's A/A floor for a configuration: as it was measured before, or measured now.

        Args:
            rules: of the races between equals; those of a trial by default.
            keep: look for one that was kept, and keep this one; for what takes about as long it is the same.
            anew: measure it, whatever was kept.
        """
        rules = rules or self.rules.duel
        self.pin(configuration)
        with self._leased():
            latency = self._pinned().latency_s
            place = place_of(self._device, self._processor)
            key = floor_key(place, self._spec(configuration).factory, latency, rules)
            known = cached_floor(key) if keep and not anew else None
            if known is not None:
                return known
            self._unpin()
            opener = in_pairs(lambda processor: self.open(configuration, processor), self._device)
            found = measure_floor(opener, key=key, rules=rules, progress=progress)
        if keep:
            keep_floor(found)
        return found

    def open(self, configuration: Configuration, processor: int | None = None) -> Subject:
        """Convert for a configuration as far as that has not been done, and load it in a worker process of its own.

        Args:
            processor: the only one that the worker may run on; None for all.

        Raises:
            TrialFailed: it cannot be converted.
            VerificationError: EDG302 when it does not load.
        """
        conversion = self.conversions.get(configuration)
        spec = self._spec(configuration)
        batch = configuration.get("batch", self.source.batch)
        size = batch if isinstance(batch, int) else None
        feeds = [as_artifact(sample, conversion) for sample in self.samples.stacked(size, self.source.batch)]
        return open_subject(
            spec.factory,
            conversion.artifact,
            spec.options,
            feeds,
            memory_limit=self.rules.memory_limit,
            timeout_s=self.rules.timeout_s,
            warm_up=self.rules.warm_up,
            processors=None if processor is None else (processor,),
        )

    def close(self) -> None:
        """End the worker of the pinned configuration."""
        self._unpin()

    # inside

    def _samples(self, configuration: Configuration | None) -> float:
        batch = (configuration or {}).get("batch", self.source.batch)
        return float(batch) if isinstance(batch, int) else 1.0

    @contextlib.contextmanager
    def _leased(self) -> Iterator[None]:
        with self.lease() as waited:
            self.waited_s += waited
            yield

    def _pinned(self) -> Subject:
        """The pinned configuration, open; opened again where its worker has died."""
        assert self._pin is not None
        if self._incumbent is not None and not _lives(self._incumbent):
            self._unpin()
        if self._incumbent is None:
            with self._refusing(self._pin):
                self._processor = one_processor(self._device)
                self._incumbent = self.open(self._pin, self._processor)
                self._incumbent.warm_up()
        return self._incumbent

    def _unpin(self) -> None:
        if self._incumbent is not None:
            self._incumbent.close()
            self._incumbent = None

    @contextlib.contextmanager
    def _warm(self, configuration: Configuration, processor: int | None) -> Iterator[Subject]:
        """A configuration, open and warm; closed at the end."""
        with self._refusing(configuration):
            subject = self.open(configuration, processor)
        try:
            with self._refusing(configuration):
                subject.warm_up()
            yield subject
        finally:
            subject.close()

    def _on_device(self, subject: Subject) -> dict[str, float]:
        held = device_memory(self._device, subject.process)
        return {} if held is None else {DEVICE_MEMORY: float(held)}

    def _spec(self, configuration: Configuration) -> SessionSpec:
        conversion = self.conversions.get(configuration)
        spec = self.target.session(conversion.artifact)
        options = {**spec.options, **self.session, **self.space.session(configuration)}
        return replace(spec, options=options)

    @contextlib.contextmanager
    def _refusing(self, configuration: Configuration) -> Iterator[None]:
        """Turn what a worker reports into a failed trial, unless the runtime itself has gone."""
        try:
            yield
        except VerificationError as error:
            self._require_runtime(error)
            raise self._failed(configuration, error) from error
        except EdgecError as error:
            if error.exit_code == EXIT_TOOL_MISSING:
                raise
            if error.exit_code == EXIT_USAGE and error.code.startswith("EDG04"):
                raise TrialFailed("refused", f"{error.code}: {error.message}") from error
            raise

    def _require_runtime(self, error: VerificationError) -> None:
        for finding in self.target.doctor():
            if not finding.ok:
                raise EdgecError(
                    "EDG510",
                    f"{finding.subject} has gone while the study was running",
                    why=finding.detail,
                    help=f"{finding.help}; then give the same command again: the study goes on",
                ) from error

    def _failed(self, configuration: Configuration, error: VerificationError) -> TrialFailed:
        lines = " ".join(error.details.get("stderr", ()))
        text = f"{error.message} {error.why or ''} {lines}"
        reason = f"{error.code}: {error.message}" + (f": {error.why}" if error.why else "")
        hungry = {
            name: value
            for name, value in configuration.items()
            if self.space.by_name[name].is_conversion or self.space.by_name[name].hunger
        }
        if OUT_OF_MEMORY.search(text):
            return TrialFailed("memory", reason, hungry)
        if "timeout_s" in error.details:
            return TrialFailed("hang", reason)
        if error.details.get("signal") == "SIGKILL":
            return TrialFailed(KILLED, reason, hungry)
        if error.details.get("signal"):
            return TrialFailed("crash", reason)
        return TrialFailed("refused", reason)


class _Running:
    """A race between two open subjects."""

    def __init__(
        self,
        owner: LocalMeasurements,
        configuration: Configuration,
        incumbent: Subject,
        candidate: Subject,
        rules: DuelRules,
        scale: float,
    ):
        self._owner = owner
        self._configuration = configuration
        self._incumbent = incumbent
        self._candidate = _Listening(candidate)
        self._scale = scale
        self._duel = Duel(incumbent, self._candidate, rules, scale=scale)

    @property
    def extra(self) -> Mapping[str, float]:
        """What the conversion tells of itself, and the memory on the device, where the driver tells."""
        told = self._owner.conversions.get(self._configuration).described
        return {**told, **self._owner._on_device(self._candidate.subject)}

    @property
    def memory_bytes(self) -> int | None:
        """Above what the worker held before the model was loaded."""
        with self._owner._refusing(self._configuration):
            return self._candidate.subject.peak_memory.added

    @property
    def samples_ms(self) -> list[float]:
        """All run times."""
        return [seconds * 1e3 for seconds in self._candidate.heard]

    def step(self) -> Standing:
        """A few more blocks."""
        try:
            for _ in range(BELIEVED if not self._duel.blocks else max(ROUND, self._duel.blocks // 8)):
                self._duel.block()
        except VerificationError as error:
            if not _lives(self._incumbent):
                raise TrialFailed(LOST, f"the worker it raced against died: {error.message}") from error
            with self._owner._refusing(self._configuration):
                raise
        found = self._duel.estimate()
        hosted = self._owner.waits_for_a_device
        return Standing(
            found.ratio / self._scale,
            found.low / self._scale,
            found.high / self._scale,
            found.blocks,
            found.status is not Status.RUNNING,
            found.blocks >= BELIEVED,
            found.reason if found.status is Status.UNSTABLE else None,
            found.candidate_s * 1e3 if hosted else None,
            found.incumbent_s * 1e3 if hosted else None,
            found.reason if found.status is Status.WIDE else None,
        )


class _Listening:
    """A subject that remembers how long its runs took."""

    def __init__(self, subject: Subject):
        self.subject = subject
        self.heard: list[float] = []

    @property
    def latency_s(self) -> float:
        return self.subject.latency_s

    def warm_up(self) -> Any:
        return self.subject.warm_up()

    def time(self, count: int) -> list[float]:
        found = self.subject.time(count)
        self.heard.extend(found)
        return found


def _lives(subject: Subject) -> bool:
    """Whether its worker still answers."""
    try:
        subject.time(1)
    except VerificationError:
        return False
    return True
