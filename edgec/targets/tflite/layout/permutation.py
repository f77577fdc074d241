"""Permutations of axes: how an ONNX value lies in memory.

A value stored under the permutation ``p`` has stored axis ``j`` = ONNX axis ``p[j]``; channels-last of a 4-D image is
``(0, 2, 3, 1)``.
"""

from __future__ import annotations

from collections.abc import Sequence

Permutation = tuple[int, ...]


def identity(rank: int) -> Permutation:
    """The permutation that changes nothing."""
    return tuple(range(rank))


def channels_last(rank: int) -> Permutation:
    """N, C, spatial... stored as N, spatial..., C."""
    return (0, *range(2, rank), 1) if rank >= 3 else identity(rank)


def invert(permutation: Permutation) -> Permutation:
    """The permutation that undoes another."""
    result = [0] * len(permutation)
    for stored, axis in enumerate(permutation):
        result[axis] = stored
    return tuple(result)


def stored(shape: Sequence[int], permutation: Permutation) -> tuple[int, ...]:
    """The stored extents of an ONNX shape."""
    return tuple(shape[axis] for axis in permutation)


def order(shape: Sequence[int], permutation: Permutation) -> Permutation:
    """The order in which the axes longer than one are stored: equal orders mean equal bytes in memory."""
    return tuple(axis for axis in permutation if shape[axis] != 1)


def same_bytes(shape: Sequence[int], first: Permutation, second: Permutation) -> bool:
    """Whether two permutations of one shape store the same bytes, so that a RESHAPE turns one into the other."""
    return first == second or order(shape, first) == order(shape, second)


def through_reshape(before: Sequence[int], after: Sequence[int], permutation: Permutation) -> Permutation | None:
    """The permutation of a reshaped value whose bytes are those of the value stored under ``permutation``.

    Both shapes are cut into the finest groups of axes with equal products.  As long as the stored order keeps every
    group of ``before`` together and in its own order, the groups of ``after`` may be stored in that same order.
    Returns None where that is impossible.
    """
    groups = _groups(before, after)
    if groups is None:
        return None
    group_of: dict[int, int] = {}
    for number, (sources, _) in enumerate(groups):
        for axis in sources:
            group_of[axis] = number
    sequence: list[int] = []
    expected: dict[int, list[int]] = {
        number: [axis for axis in sources if before[axis] != 1] for number, (sources, _) in enumerate(groups)
    }
    for axis in permutation:
        if before[axis] == 1:
            continue
        number = group_of[axis]
        if not sequence or sequence[-1] != number:
            if number in sequence:
                return None
            sequence.append(number)
        if expected[number].pop(0) != axis:
            return None
    if sequence == sorted(sequence):
        return identity(len(after))
    placed = [number for number in sequence]
    result: list[int] = []
    pending = [number for number in range(len(groups)) if number not in placed]
    # groups of extents 1 stay where they are in ONNX order, before the next group that is placed
    for number in placed:
        while pending and pending[0] < number:
            result.extend(groups[pending.pop(0)][1])
        result.extend(groups[number][1])
    for number in pending:
        result.extend(groups[number][1])
    return tuple(result)


def _groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]] | None:
    """The finest cut of two shapes with equal element counts into groups of axes with equal products."""
    if 0 in before or 0 in after:
        return None
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        sources: list[int] = []
        results: list[int] = []
        left = right = 1
        if i < len(before) and before[i] == 1 and not (j < len(after) and after[j] == 1):
            groups.append(([i], []))
            i += 1
            continue
        if j < len(after) and after[j] == 1 and not (i < len(before) and before[i] == 1):
            groups.append(([], [j]))
            j += 1
            continue
        if i >= len(before) or j >= len(after):
            return None
        sources.append(i)
        results.append(j)
        left, right = before[i], after[j]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                if i >= len(before):
                    return None
                left *= before[i]
                sources.append(i)
                i += 1
            else:
                if j >= len(after):
                    return None
                right *= after[j]
                results.append(j)
                j += 1
        groups.append((sources, results))
    return groups
