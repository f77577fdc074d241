"""The JSON documents of the command line, and how they reach standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from edgec.errors import EdgecError


def print_document(document: Mapping[str, Any]) -> None:
    """Write the one document of a command; not-a-number and infinities become null, which JSON has instead."""
    sys.stdout.write(json.dumps(finite(document), indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def finite(value: Any) -> Any:
    """The value with every float that JSON cannot hold replaced by None."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def convert_failure(error: EdgecError) -> dict[str, Any]:
    """The document of a conversion that failed, also where the converter was never reached.

    The fields are those of :meth:`edgec.converter.convert.ConversionResult.to_json`.
    """
    details = dict(error.details)
    verification, rejected = details.pop("verification", None), details.pop("rejected", None)
    notes = details.pop("notes", [])
    document: dict[str, Any] = finite(
        {
            "schema": "edgec-convert-1",
            "status": "error",
            "artifact": None,
            "manifest": None,
            "sidecars": [],
            "rejected": rejected,
            "mixed": None,
            "verification": verification,
            "operators": None,
            "notes": notes,
            "plan": None,
            "error": {**error.to_json(), "details": details},
        }
    )
    return document
