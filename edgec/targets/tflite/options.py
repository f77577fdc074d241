"""The options of a LiteRT session, under names that JSON can hold.

LiteRT has two ways to run a model: the interpreter, which takes external delegates, and the compiled model, which takes
accelerators and XNNPACK's weight cache.  What only one of them has is refused with the other.
Sources: ``ai_edge_litert.interpreter`` and ``ai_edge_litert.compiled_model`` of ai-edge-litert 2.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from edgec.errors import UsageError
from edgec.runtime.options import check_choice, check_count, check_flag

APIS: Final = ("interpreter", "compiled")
ACCELERATORS: Final = ("cpu", "gpu", "npu")


@dataclass(frozen=True)
class DelegateOption:
    """An external delegate: a shared library, and what it is told.

    Attributes:
        library: path, or a name that the loader finds.
        options: the delegate's own options; what they mean is its documentation's.
    """

    library: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """How a .tflite file is loaded; the defaults are those that verification uses.

    Attributes:
        threads: threads inside an operator, at least 1.
        xnnpack: let LiteRT apply XNNPACK; without it its built-in kernels run.
        api: ``interpreter`` or ``compiled``.
        accelerator: ``cpu``, ``gpu`` or ``npu``; the last two with ``compiled`` only.  Operators that the accelerator
            does not take run on the CPU, which is reported, unless ``require_delegate`` forbids it.
        delegates: external delegates in the order in which they are offered the graph, with ``interpreter`` only; each
            is ``{"library": PATH, "options": {...}}``.
        require_delegate: refuse a model of which an operator is left to the CPU by the delegates or the accelerator.
        specialise: keep up to this many copies of a model with open extents, each for the input shapes of one run; 0
            keeps one, which is planned anew whenever the shapes change.  With ``interpreter`` only.
        weight_cache: file in which XNNPACK keeps its packed weights for the next start, with ``compiled`` only.
    """

    threads: int = 1
    xnnpack: bool = True
    api: str = "interpreter"
    accelerator: str = "cpu"
    delegates: tuple[DelegateOption, ...] = ()
    require_delegate: bool = False
    weight_cache: str | None = None
    specialise: int = 0

    def __post_init__(self) -> None:
        """Check every value, and what the values mean together.

        Raises:
            UsageError: EDG040.
        """
        check_count("threads", self.threads)
        if self.specialise:
            check_count("specialise", self.specialise)
        check_flag("xnnpack", self.xnnpack)
        check_flag("require_delegate", self.require_delegate)
        check_choice("api", self.api, APIS)
        check_choice("accelerator", self.accelerator, ACCELERATORS)
        object.__setattr__(self, "delegates", tuple(_delegate(item) for item in self.delegates))
        if problem := self._contradiction():
            raise UsageError("EDG040", problem, help="docs/running.md lists the options")

    def _contradiction(self) -> str | None:
        compiled = self.api == "compiled"
        if self.accelerator != "cpu" and not compiled:
            return f"accelerator={self.accelerator} needs api=compiled: the interpreter has no accelerators"
        if self.delegates and compiled:
            return "delegates need api=interpreter: the compiled model takes no external delegates"
        if self.specialise and compiled:
            return "specialise needs api=interpreter: the compiled model has fixed shapes"
        if self.weight_cache is not None and not compiled:
            return "weight_cache needs api=compiled: the Python interpreter does not offer it"
        if self.weight_cache is not None and not self.xnnpack:
            return "weight_cache is XNNPACK's, which xnnpack=False turns off"
        if self.require_delegate and not self.delegates and self.accelerator == "cpu" and not self.xnnpack:
            return "require_delegate needs a delegate, an accelerator or XNNPACK"
        return None


def options_from(given: Mapping[str, Any]) -> Options:
    """Options by name.

    Raises:
        UsageError: EDG040 for a name that is none, or a value that does not fit.
    """
    known = [item.name for item in fields(Options)]
    for name in given:
        if name not in known:
            raise UsageError("EDG040", f"LiteRT has no session option '{name}'", why=f"known: {', '.join(known)}")
    return Options(**given)


def _delegate(item: Any) -> DelegateOption:
    if isinstance(item, DelegateOption):
        return item
    if not isinstance(item, Mapping) or not isinstance(item.get("library"), str) or set(item) - {"library", "options"}:
        raise UsageError("EDG040", f"{item!r} is no delegate", why='a delegate is {"library": PATH, "options": {...}}')
    options = item.get("options", {})
    if not isinstance(options, Mapping):
        raise UsageError("EDG040", f"the options of the delegate {item['library']} must be names with values")
    return DelegateOption(item["library"], {str(key): str(value) for key, value in options.items()})
