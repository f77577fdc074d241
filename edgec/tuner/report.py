"""A study as one HTML file: no network, no other file, opened from anywhere."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Final

from edgec.targets.knobs import Knob, Part
from edgec.tuner.journal import writing_failed
from edgec.tuner.outcome import StudyResult
from edgec.tuner.proposing import time_model
from edgec.tuner.space import Space

PAGE: Final = "edgec.tuner.page"


def write_html(result: StudyResult, file: Path) -> Path:
    """Write the report.

    Raises:
        UsageError: EDG010 where the file cannot be written, EDG011 on a full disk.
    """
    text = render_html(result)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.part")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(file)
    except OSError as error:
        raise writing_failed(file, error, help="give another file: --html FILE") from error
    return file


def render_html(result: StudyResult) -> str:
    """The whole page."""
    document = result.to_json()
    document["importance"] = importance(result)
    title = f"{document['model']['name']} on {document['target']}"
    goals = ", ".join(document["goals"]["objectives"])
    limits = "".join(f", {limited(name, limit)}" for name, limit in document["goals"]["limits"].items())
    counts = ", ".join(f"{count} {state}" for state, count in document["counts"].items() if count)
    machine = document["machine"]
    subtitle = (
        f"Objective: {goals}{limits}. {len(document['trials'])} trials ({counts or 'none'}) of "
        f"{document['configurations'] or 'very many'} configurations, {document['basis']} on {machine['processor']} "
        f"({machine['processors']} processors)."
    )
    page = Template((files(PAGE) / "report.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        winner=_winner(document),
        notes="\n".join(f"<li>{escape(note)}</li>" for note in document["notes"]) or "<li>none</li>",
        style=(files(PAGE) / "report.css").read_text(encoding="utf-8"),
        script=(files(PAGE) / "report.js").read_text(encoding="utf-8"),
        data=_embedded(document),
    )


def limited(name: str, limit: float) -> str:
    """A limit in the units in which people give it."""
    forms = {
        "latency": f"one run at most {limit:g} ms",
        "memory": f"memory at most {limit / 1e6:g} MB",
        "device_memory": f"memory on the device at most {limit / 1e6:g} MB",
        "drop": f"at most {limit * 100:g} % of the quality lost",
    }
    return forms[name]


def importance(result: StudyResult) -> dict[str, float]:
    """Knob to the standard deviation of its effect on the logarithm of the time; empty with too few trials."""
    knobs = tuple(
        Knob(
            entry["name"],
            Part(entry["part"]),
            tuple(entry["values"]),
            entry["default"],
            when={name: tuple(values) for name, values in entry["when"].items()},
        )
        for entry in result.header["knobs"]
    )
    model = time_model(Space(knobs), result.trials)
    return {} if model is None else {name: round(value, 6) for name, value in model.effects().items()}


def _winner(document: dict[str, Any]) -> str:
    winner, gain = document["winner"], document["gain"]
    if winner is None:
        text = {
            "infeasible": "No configuration keeps the limits.",
            "unfinished": "The study is not finished: its command goes on with it.",
        }.get(document["status"], "There is no winner.")
        return f'<div class="winner none" id="winner">{text}</div>'
    said = "The default stays: no significant gain." if winner["number"] == 0 else f"Trial {winner['number']}: "
    if winner["number"] != 0 and gain is not None:
        said += f"{gain['text']} (95 % interval, measured again; A/A floor {gain['floor']:.1%})."
    settings = " ".join(f"{name}={_plain(value)}" for name, value in winner["configuration"].items())
    return (
        f'<div class="winner" id="winner"><strong>{escape(said)}</strong><br>{escape(settings)}'
        f'<pre id="command">{escape(document["command"])}</pre>'
        '<button type="button" id="copy">copy</button></div>'
    )


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _embedded(document: dict[str, Any]) -> str:
    """JSON that cannot end the element that it stands in."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
