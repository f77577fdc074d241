"""The configurations of a study: which are the same, which cannot work, and in what order they are counted."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from edgec.errors import UsageError
from edgec.targets.knobs import Configuration, Impossible, Knob, Knobs, Setting

COUNTED: Final = 20_000
"""Spaces of up to so many configurations are listed; of larger ones the search sees a part at a time."""


Codes = npt.NDArray[np.int64]
"""Configurations as rows of value numbers."""


def key_of(configuration: Configuration) -> str:
    """The content key of a canonical configuration: the first 16 hexadecimal digits of the SHA-256 of its JSON."""
    text = json.dumps(dict(configuration), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Space:
    """The knobs that are varied, and those that are fixed (one value).

    Attributes:
        knobs: in the order in which conditions refer to each other.
        impossible: what cannot work.
    """

    knobs: tuple[Knob, ...]
    impossible: tuple[Impossible, ...] = ()

    @cached_property
    def default(self) -> dict[str, Setting]:
        """The canonical default configuration."""
        return self.canonical({knob.name: knob.default for knob in self.knobs})

    @cached_property
    def by_name(self) -> dict[str, Knob]:
        """The knobs by their names."""
        return {knob.name: knob for knob in self.knobs}

    def canonical(self, configuration: Configuration) -> dict[str, Setting]:
        """Only what matters: knobs whose condition does not hold are left out, so that equal ones look the same."""
        found: dict[str, Setting] = {}
        for knob in self.knobs:
            if _matters(knob, found):
                found[knob.name] = configuration.get(knob.name, knob.default)
        return found

    def complete(self, configuration: Configuration) -> dict[str, Setting]:
        """Every knob, those that do not matter at their defaults."""
        return {knob.name: configuration.get(knob.name, knob.default) for knob in self.knobs}

    def why_impossible(self, configuration: Configuration) -> str | None:
        """The reason why a canonical configuration cannot work, or None."""
        for rule in self.impossible:
            reason = rule.check(configuration)
            if reason is not None:
                return reason
        return None

    def conversion(self, configuration: Configuration) -> dict[str, Setting]:
        """The part of a configuration that decides the artifact."""
        return {name: value for name, value in configuration.items() if self.by_name[name].is_conversion}

    def suspects(self, configuration: Configuration) -> dict[str, Setting]:
        """What of the conversion differs from the default's, which works: where a conversion fails, that is why."""
        return {
            name: value
            for name, value in self.conversion(configuration).items()
            if name not in self.default or self.default[name] != value
        }

    def session(self, configuration: Configuration) -> dict[str, Setting]:
        """The part of a configuration that is given to the session."""
        return {name: value for name, value in configuration.items() if not self.by_name[name].is_conversion}

    @cached_property
    def points(self) -> tuple[dict[str, Setting], ...] | None:
        """Every canonical configuration that may work, in a fixed order; None where there are more than can be listed.

        Those with the default values come first, since every knob counts from its default.
        """
        listed = tuple(itertools.islice(self._walk(0, {}), COUNTED + 1))
        return None if len(listed) > COUNTED else listed

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys of :attr:`points`; empty where they are not listed."""
        return tuple(key_of(point) for point in self.points or ())

    @cached_property
    def codes(self) -> Codes:
        """:meth:`encode` of :attr:`points`."""
        return self.encode(self.points or ())

    def encode(self, configurations: Sequence[Configuration]) -> Codes:
        """[configurations, knobs]: the position among a knob's values; one past the last where the knob is absent."""
        found = np.empty((len(configurations), len(self.knobs)), np.int64)
        for column, knob in enumerate(self.knobs):
            numbers = {(type(value), value): position for position, value in enumerate(knob.values)}
            absent = len(knob.values)
            for row, configuration in enumerate(configurations):
                if knob.name in configuration:
                    value = configuration[knob.name]
                    found[row, column] = numbers.get((type(value), value), 0)
                else:
                    found[row, column] = absent
        return found

    def _walk(self, position: int, chosen: dict[str, Setting]) -> Iterator[dict[str, Setting]]:
        if position == len(self.knobs):
            if self.why_impossible(chosen) is None:
                yield dict(chosen)
            return
        knob = self.knobs[position]
        if not _matters(knob, chosen):
            yield from self._walk(position + 1, chosen)
            return
        for value in sorted(knob.values, key=lambda value: value != knob.default):
            chosen[knob.name] = value
            yield from self._walk(position + 1, chosen)
        del chosen[knob.name]

    def candidates(self, near: Sequence[Configuration], seed: int) -> dict[str, dict[str, Setting]]:
        """Configurations to choose the next one from, by key: random ones and the neighbours of ``near``."""
        rng = np.random.default_rng(seed)
        found: dict[str, dict[str, Setting]] = {}
        for base in near:
            for knob in self.knobs:
                for value in knob.values:
                    self._add(found, {**self.complete(base), knob.name: value})
        while len(found) < COUNTED // 4:
            self._add(found, {knob.name: knob.values[rng.integers(len(knob.values))] for knob in self.knobs})
        return found

    def _add(self, found: dict[str, dict[str, Setting]], configuration: Configuration) -> None:
        canonical = self.canonical(configuration)
        if self.why_impossible(canonical) is None:
            found.setdefault(key_of(canonical), canonical)

    def describe(self) -> list[dict[str, object]]:
        """The knobs as JSON holds them; two studies are about the same thing only where these are equal."""
        return [
            {
                "name": knob.name,
                "part": knob.part.value,
                "values": list(knob.values),
                "default": knob.default,
                "when": {name: list(values) for name, values in knob.when.items()},
                "help": knob.help,
            }
            for knob in self.knobs
        ]


def _matters(knob: Knob, chosen: Configuration) -> bool:
    """Whether the condition of a knob holds; a knob that it names and that does not matter itself fails it."""
    return all(name in chosen and _among(chosen[name], values) for name, values in knob.when.items())


def _among(value: Setting, values: Sequence[Setting]) -> bool:
    """Membership that keeps True and 1 apart."""
    return any(value == other and type(value) is type(other) for other in values)


def make_space(knobs: Knobs, asked: Mapping[str, Sequence[Setting]], frozen: Mapping[str, str]) -> Space:
    """The space of a study.

    Args:
        knobs: what the target offers.
        asked: knob to the only values to try (``--knob``); the first is its default where the target's is not among
            them.
        frozen: knob to the reason why it stays at its default.

    Raises:
        UsageError: EDG812 for a knob or a value that there is not.
    """
    names = [knob.name for knob in knobs.knobs]
    for name in asked:
        if name not in names:
            raise UsageError("EDG812", f"there is no knob '{name}'", why=f"known: {', '.join(names) or 'none'}")
    found = []
    for knob in knobs.knobs:
        if knob.name in asked:
            found.append(_restricted(knob, asked[knob.name]))
        elif knob.asked or knob.name in frozen:
            found.append(replace(knob, values=(knob.default,)))
        else:
            found.append(knob)
    space = Space(tuple(found), knobs.impossible)
    reason = space.why_impossible(space.default)
    if reason is not None:
        raise UsageError("EDG812", "the default configuration cannot work", why=reason, help="give other --knob values")
    return space


def _restricted(knob: Knob, values: Sequence[Setting]) -> Knob:
    """The knob with the values asked for; numbers need not be among those that the target tries by itself."""
    chosen: list[Setting] = []
    for value in values:
        kinds = int | float if any(isinstance(other, float) for other in knob.values) else int
        positive = isinstance(value, kinds) and not isinstance(value, bool) and value > 0
        numeric = positive and any(isinstance(other, kinds) and not isinstance(other, bool) for other in knob.values)
        if not numeric and not _among(value, knob.values):
            known = ", ".join(json.dumps(other) for other in knob.values)
            raise UsageError(
                "EDG812", f"{json.dumps(value)} is no value of the knob '{knob.name}'", why=f"it has {known}"
            )
        if not _among(value, chosen):
            chosen.append(value)
    default = knob.default if _among(knob.default, chosen) else chosen[0]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in chosen):
        chosen.sort(key=lambda value: value if isinstance(value, int | float) else 0)
    return replace(knob, values=tuple(chosen), default=default)
