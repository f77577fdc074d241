"""Best classes, labels and files of outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgec.errors import EdgecError
from edgec.execution.running import best, is_scores, read_labels, save, summary


def test_the_best_classes_come_in_order_of_their_scores() -> None:
    scores = np.array([[1, 5, np.nan, 5, -2, np.inf]], np.float32)
    found = best(scores, 4, ["a", "b", "c"])
    assert [(item.index, item.label) for item in found] == [(5, None), (1, "b"), (3, None), (0, "a")]
    assert len(best(scores, 100)) == 6 and best(scores, 100)[-1].index == 2
    generator = np.random.default_rng(0)
    many = generator.integers(0, 50, 1000)
    assert [item.index for item in best(many, 10)] == sorted(range(1000), key=lambda at: (-many[at], at))[:10]


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((10,), True),
        ((1, 10), True),
        ((1, 1, 1, 10), True),
        ((2, 10), False),
        ((1, 10, 1, 1), True),
        ((1, 10, 1, 1, 1), True),
        ((10, 1), False),
        ((10, 1, 1, 1), False),
        ((1, 10, 1), False),
        ((1, 5, 2, 1), False),
        ((), False),
        ((1,), False),
    ],
)
def test_scores_are_one_number_per_class(shape: tuple[int, ...], wanted: bool) -> None:
    assert is_scores(np.zeros(shape)) is wanted
    assert not is_scores(np.zeros(shape, bool))


def test_labels_are_read_in_the_usual_forms(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    for text, expected in (
        ("cat\ndog\n", ["cat", "dog"]),
        ("0  cat\n1  dog\n3  big bird\n", ["cat", "dog", "", "big bird"]),
        ("1: dog\n0: cat\n", ["cat", "dog"]),
        ("7\n8\n9\n", ["7", "8", "9"]),
        ("cat\n\ndog\n\n", ["cat", "", "dog"]),
        ("3 blind mice\nthree men\n", ["3 blind mice", "three men"]),
        ("99999999 far\n", ["99999999 far"]),
        ("Grüße\n", ["Grüße"]),
    ):
        path.write_text(text, encoding="utf-8")
        assert read_labels(path) == expected
    for content in (b"", b"\n\n", b"\xff\xfe\x00"):
        path.write_bytes(content)
        with pytest.raises(EdgecError) as caught:
            read_labels(path)
        assert caught.value.code == "EDG006"
    with pytest.raises(EdgecError):
        read_labels(tmp_path / "none.txt")


def test_a_summary_counts_what_is_not_finite() -> None:
    found = summary(np.array([1, np.nan, np.inf, 3], np.float32))
    assert found == {"minimum": 1.0, "maximum": 3.0, "mean": 2.0, "not_finite": 2, "values": found["values"]}
    assert summary(np.full(20, np.nan))["minimum"] is None and summary(np.zeros(20))["values"] is None
    assert summary(np.array(["a", "b"], object))["values"] == ["a", "b"]
    assert summary(np.array([], np.float32))["mean"] is None


def test_outputs_of_any_name_are_saved_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    arrays = {"file": np.arange(3), "a/b:0": np.float32(4).reshape(()), "self": np.zeros((2, 0), np.int8)}
    save(arrays, path)
    with np.load(path) as found:
        assert set(found.files) == set(arrays)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype and found[name].shape == array.shape
            np.testing.assert_array_equal(found[name], array)
    save({"strings": np.array(["a", "bc"], object)}, path)
    with np.load(path) as found:
        assert found["strings"].tolist() == ["a", "bc"]
    with pytest.raises(OSError):
        save(arrays, tmp_path / "none" / "out.npz")
    assert [item.name for item in tmp_path.iterdir()] == ["out.npz"]
