"""Targets by name: the built-in ones and those that installed packages register.

A plug-in declares the entry point ``NAME = "module:TARGET"`` in the group ``edgec.targets``; ``TARGET`` is an instance
of :class:`edgec.targets.base.Target`.  Nothing is imported until a target is asked for.
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import entry_points
from typing import Final

from edgec.errors import UsageError
from edgec.targets.base import Target

GROUP: Final = "edgec.targets"

BUILT_IN: Final = {
    "tflite": "edgec.targets.tflite:TARGET",
    "onnxruntime": "edgec.targets.onnxruntime:TARGET",
    "edgetpu": "edgec.targets.edgetpu:TARGET",
    "ethosu": "edgec.targets.ethosu:TARGET",
}


@cache
def locations() -> dict[str, str]:
    """Every target's name and where it is (``module:attribute``), built-in ones first; plug-ins never replace those."""
    found = dict(BUILT_IN)
    for entry in sorted(entry_points(group=GROUP), key=lambda item: (item.name, item.value)):
        found.setdefault(entry.name, entry.value)
    return found


def names() -> list[str]:
    """The names that ``--target`` takes."""
    return list(locations())


def load(name: str) -> Target:
    """The target of a name.

    Raises:
        UsageError: EDG003 for an unknown name, or for a plug-in that cannot be imported or is no target.
    """
    place = BUILT_IN.get(name) or locations().get(name)
    if place is None:
        raise UsageError(
            "EDG003", f"there is no target '{name}'", why=f"known targets: {', '.join(names())}", help="edgec targets"
        )
    module, _, attribute = place.partition(":")
    try:
        target = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            "EDG003", f"the target '{name}' cannot be loaded", where=place, why=str(error), help="edgec doctor"
        ) from error
    if not isinstance(target, Target):
        raise UsageError("EDG003", f"the target '{name}' is no edgec target", where=place, why=repr(type(target)))
    return target
