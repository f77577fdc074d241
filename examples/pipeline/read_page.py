"""Read pages of digits: cut out, recognise and write down at the same time.

    python examples/pipeline/read_page.py FOLDER [--pages 40]

Every page is a picture of 18 rows of 20 digits.  Three stages work on different pages at once: `cut` finds the digits
of a page, `recognise` runs the model, `write` makes text of its outputs.  Ends with exit code 0 only when every page
came back in order and with the accuracy of the model.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import edgec
from edgec.runtime.pipelining import Pipeline, Stage

DIGITS = Path(__file__).resolve().parents[1] / "digits"
ROWS, COLUMNS, EXTENT = 18, 20, 8


def pages(count: int) -> Iterator[tuple[int, Any]]:
    """Numbered pictures, float32 [144, 160], the digits of each rolled by its number; made one at a time."""
    with np.load(DIGITS / "samples.npz") as samples:
        digits = samples["x"].reshape(ROWS * COLUMNS, EXTENT, EXTENT)
    for number in range(count):
        tiles = np.roll(digits, number, axis=0).reshape(ROWS, COLUMNS, EXTENT, EXTENT)
        yield number, tiles.transpose(0, 2, 1, 3).reshape(ROWS * EXTENT, COLUMNS * EXTENT)


def cut(page: tuple[int, Any]) -> tuple[int, Any]:
    """A picture to its digits, float32 [360, 1, 8, 8]."""
    number, picture = page
    tiles = picture.reshape(ROWS, EXTENT, COLUMNS, EXTENT).transpose(0, 2, 1, 3)
    return number, np.ascontiguousarray(tiles.reshape(-1, 1, EXTENT, EXTENT))


def write(page: tuple[int, Any]) -> tuple[int, str]:
    """The scores of the digits, float32 [360, 10], to a line of text per row."""
    number, scores = page
    digits = scores.argmax(axis=1).reshape(ROWS, COLUMNS)
    return number, "\n".join("".join(str(digit) for digit in row) for row in digits)


def main() -> int:
    """Read all pages and compare them with the labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what `edgec convert --input-shape x:360,1,8,8` wrote")
    parser.add_argument("--pages", type=int, default=40)
    arguments = parser.parse_args()
    labels = np.load(DIGITS / "labels.npy")
    right, expected, text = 0, 0, ""

    with edgec.load(arguments.folder) as model:
        name = model.inputs[0].name

        def recognise(page: tuple[int, Any]) -> tuple[int, Any]:
            number, digits = page
            return number, next(iter(model.run({name: digits}).values()))

        stages = [Stage("cut", cut, workers=2), Stage("recognise", recognise, device="cpu"), Stage("write", write)]
        with Pipeline(stages, queue=4) as pipeline:
            for number, text in pipeline.map(pages(arguments.pages)):
                assert number == expected, "pages came back out of order"
                wanted = np.roll(labels, number)
                right += int((np.array(list(text.replace("\n", "")), np.int64) == wanted).sum())
                expected += 1
        found = pipeline.statistics()

    accuracy = right / (expected * ROWS * COLUMNS)
    print(text.splitlines()[0])
    print(f"{expected} pages, {found.per_second:.0f} per second, accuracy {accuracy:.2%}; slowest: {found.bottleneck}")
    print("stage       workers  busy s  starved s  blocked s  queue (mean of limit)")
    for stage in found.stages:
        print(
            f"{stage.name:11} {stage.workers:7} {stage.busy_s:7.3f} {stage.starved_s:10.3f} {stage.blocked_s:10.3f} "
            f"{stage.mean_depth:6.1f} of {stage.queue_limit}"
        )
    return 0 if expected == arguments.pages and accuracy > 0.97 else 1


if __name__ == "__main__":
    raise SystemExit(main())
