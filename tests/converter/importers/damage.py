"""Damaged files: what no reader may answer with anything but an error of ours."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

Edit = tuple[float, str, bytes]
"""Where in the file (a share of its length), what is done there, and with which bytes."""

edits: st.SearchStrategy[list[Edit]] = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from("change change flip insert delete cut".split()),
        st.binary(min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=5,
)


def fuzzing(examples: int) -> settings:
    """Settings of a fuzz test; the temporary folder may serve all its examples."""
    return settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def damaged(content: bytes, changes: list[Edit]) -> bytes:
    """The bytes after all edits."""
    found = bytearray(content)
    for where, kind, data in changes:
        position = int(where * len(found))
        if kind == "change":
            found[position : position + len(data)] = data
        elif kind == "flip" and found:
            found[position] ^= 1 << (data[0] % 8)
        elif kind == "insert":
            found[position:position] = data
        elif kind == "delete":
            del found[position : position + len(data)]
        elif kind == "cut":
            del found[position:]
    return bytes(found)
