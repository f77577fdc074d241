"""Samples from files, and the errors for those that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgec.converter.verification.data import count_samples, load_labels, load_samples
from edgec.errors import UsageError
from edgec.runtime.session import TensorSpec

F32 = np.dtype(np.float32)
ONE = [TensorSpec("x", F32, (1, 3))]
TWO = [TensorSpec("x", F32, (1, 3)), TensorSpec("n:0", np.dtype(np.int64), ())]
X = np.arange(3, dtype=np.float32).reshape(1, 3)


def load(path: Path, inputs: list[TensorSpec] = ONE) -> list[dict[str, np.ndarray]]:
    return list(load_samples(path, inputs))


def test_npy_holds_the_only_input(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    (sample,) = load(tmp_path / "a.npy")
    np.testing.assert_array_equal(sample["x"], X)


def test_a_leading_dimension_is_iterated(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{"x": np.stack([X, X + 1]), "n:0": np.array([7, 8])})
    first, second = load(tmp_path / "a.npz", TWO)
    assert first["x"].shape == (1, 3) and first["n:0"] == 7 and second["n:0"].shape == ()
    np.testing.assert_array_equal(second["x"], X + 1)


def test_a_first_dimension_beyond_the_batch_is_iterated(tmp_path: Path) -> None:
    images = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.savez(tmp_path / "a.npz", x=images)
    np.testing.assert_array_equal([sample["x"] for sample in load(tmp_path / "a.npz")], images[:, None])
    pairs = load(tmp_path / "a.npz", [TensorSpec("x", F32, (2, 3))])
    assert [sample["x"].shape for sample in pairs] == [(2, 3), (2, 3)]
    np.testing.assert_array_equal(np.concatenate([sample["x"] for sample in pairs]), images)
    with pytest.raises(UsageError, match=r"has shape \[4, 3\], the input has \[3, 3\]"):
        load(tmp_path / "a.npz", [TensorSpec("x", F32, (3, 3))])


@pytest.mark.parametrize(
    ("batch", "rows"), [(3, [[0, 1, 2], [3, 4, 0]]), (8, [[0, 1, 2, 3, 4, 0, 1, 2]]), (5, [[0, 1, 2, 3, 4]])]
)
def test_the_last_batch_is_filled_with_the_first_rows(tmp_path: Path, batch: int, rows: list[list[int]]) -> None:
    images = np.repeat(np.arange(5, dtype=np.float32)[:, None], 3, axis=1)
    np.savez(tmp_path / "a.npz", x=images, labels=np.arange(5))
    spec = [TensorSpec("x", F32, (batch, 3))]
    samples = list(load_samples(tmp_path / "a.npz", spec, fill=True))
    assert [sample["x"][:, 0].tolist() for sample in samples] == rows
    labels = load_labels(tmp_path / "a.npz", spec, fill=True)
    assert labels is not None and labels.tolist() == [row for each in rows for row in each]


def test_inputs_with_different_rows_do_not_belong_together(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((5, 3), np.float32), w=np.zeros((6, 3), np.float32))
    specs = [TensorSpec("x", F32, (4, 3)), TensorSpec("w", F32, (4, 3))]
    with pytest.raises(UsageError, match="same number of samples"):
        list(load_samples(tmp_path / "a.npz", specs, fill=True))


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name, offset in (("b", 1), ("a", 0), ("c", 2)):
        np.save(tmp_path / f"{name}.npy", X + offset)
    assert [float(sample["x"][0, 0]) for sample in load(tmp_path)] == [0, 1, 2]


def test_unknown_extents_take_any_size(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 9), np.float32))
    assert len(load(tmp_path / "a.npy", [TensorSpec("x", F32, ("n", None))])) == 1


@pytest.mark.parametrize(
    ("arrays", "code", "words"),
    [
        ({"x": np.zeros((2, 4), np.float32), "n:0": np.array(1)}, "EDG005", "has shape [2, 4], the input has [1, 3]"),
        ({"x": X.astype(np.float64), "n:0": np.array(1)}, "EDG005", "float64"),
        ({"x": X}, "EDG005", "no array for the input 'n:0'"),
        ({"x": X, "n:0": np.array(1), "other": X}, "EDG002", "no input"),
        ({"x": np.stack([X, X]), "n:0": np.array([1, 2, 3])}, "EDG005", "same number of samples"),
        ({"x": np.stack([X, X]), "n:0": np.array(1)}, "EDG005", "same number of samples"),
        ({"x": np.zeros((0, 1, 3), np.float32), "n:0": np.zeros((0,), np.int64)}, "EDG005", "no samples"),
        ({}, "EDG005", "no arrays"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], code: str, words: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "a.npz", TWO)
    assert caught.value.code == code and words in caught.value.message and caught.value.exit_code == 2


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("not an archive")
    (tmp_path / "empty.npy").write_bytes(b"")
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "folder").mkdir()
    for name in ("missing.npz", "text.npz", "empty.npy", "pickled.npy", "folder"):
        with pytest.raises(UsageError) as caught:
            load(tmp_path / name)
        assert caught.value.code == "EDG006", name


def test_rows_are_read_one_by_one_in_the_order_of_fortran_too(tmp_path: Path) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.savez(tmp_path / "a.npz", x=np.asfortranarray(rows))
    np.testing.assert_array_equal(np.concatenate([sample["x"] for sample in load(tmp_path / "a.npz")]), rows)
    np.save(tmp_path / "b.npy", np.asfortranarray(rows[:1]))
    (sample,) = load(tmp_path / "b.npy")
    np.testing.assert_array_equal(sample["x"], rows[:1])


@pytest.mark.parametrize("archive", [np.savez, np.savez_compressed])
def test_a_damaged_file_is_named_when_its_rows_are_read(tmp_path: Path, archive: Callable[..., None]) -> None:
    path = tmp_path / "a.npz"
    archive(path, x=np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32))
    data = bytearray(path.read_bytes())
    data[600:640] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(UsageError) as caught:
        load(path)
    assert caught.value.code == "EDG006" and "a.npz" in caught.value.message


def test_a_file_that_ends_early_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((9, 3), np.float32))
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(data[:-8])
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "a.npy")
    assert caught.value.code == "EDG006" and "ends before" in (caught.value.why or "")


def test_samples_are_counted_without_being_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((5, 3), np.float32), labels=np.arange(5))
    np.savez(tmp_path / "b.npz", x=X)
    assert count_samples(tmp_path, ONE) == 6
    assert count_samples(tmp_path / "a.npz", [TensorSpec("x", F32, (2, 3))], fill=True) == 3


def test_text_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([["a", "bc"], ["d", "e"]]))
    found = load(tmp_path / "a.npz", [TensorSpec("x", np.dtype(object), (2,))])
    assert [sample["x"].tolist() for sample in found] == [["a", "bc"], ["d", "e"]]
