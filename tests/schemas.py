"""Validate documents against the published schemas."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def validate(document: dict[str, Any]) -> None:
    """Fail unless the document follows the schema that it names (``edgec-NAME-1``)."""
    import jsonschema

    name = document["schema"].removeprefix("edgec-").removesuffix("-1")
    schema = json.loads((files("edgec.schemas") / f"{name}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(document)
