"""Batches of real models give every sample what it gets alone."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgec.ir.types import Array
from edgec.runtime.batching import DynamicBatcher
from edgec.runtime.memory import HostPool
from edgec.runtime.onnxruntime import open_session
from edgec.runtime.session import Session
from tests.models import real_model

DIGITS = Path(__file__).resolve().parents[3] / "examples/digits"


def ask_from_threads(batcher: DynamicBatcher, samples: list[dict[str, Array]], clients: int) -> list[dict[str, Array]]:
    """The answers in the order of the samples, asked for by so many threads."""
    answers: list[dict[str, Array]] = [{} for _ in samples]
    together = threading.Barrier(clients)

    def client(number: int) -> None:
        together.wait(60)
        for index in range(number, len(samples), clients):
            answers[index] = batcher.run(samples[index], timeout=60)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.fixture(scope="module")
def digits() -> list[dict[str, Array]]:
    with np.load(DIGITS / "samples.npz") as samples:
        return [{"x": image} for image in samples["x"]]


def open_batch(path: Path) -> bytes:
    """The digits model with an open batch."""
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].Clear()
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    return model.SerializeToString()


def single(session: Session, sample: dict[str, Array]) -> Array:
    return session.run({"x": sample["x"][None]})["logits"][0]


def test_onnxruntime_with_an_open_batch(digits: list[dict[str, Array]]) -> None:
    session = open_session(open_batch(DIGITS / "digits.onnx"))
    pool = HostPool(limit=1 << 20)
    with DynamicBatcher(session, max_batch=16, pool=pool) as batcher:
        answers = ask_from_threads(batcher, digits, 6)
        assert batcher.statistics().mean_size > 1
    for sample, answer in zip(digits, answers):
        np.testing.assert_allclose(answer["logits"], single(session, sample), rtol=1e-4, atol=1e-4)
    assert pool.statistics().live == 0


def test_litert_with_a_fixed_batch(digits: list[dict[str, Array]], tmp_path: Path) -> None:
    import edgec

    edgec.convert(DIGITS / "digits.onnx", target="tflite", output=tmp_path, input_shapes={"x": (8, 1, 8, 8)})
    reference = open_session(DIGITS / "digits.onnx")
    with edgec.load(tmp_path) as model, DynamicBatcher(model, max_batch=8) as batcher:
        answers = ask_from_threads(batcher, digits, 5)
        found = batcher.statistics()
    assert found.padded == 8 * found.batches - len(digits)
    for sample, answer in zip(digits, answers):
        np.testing.assert_allclose(answer["logits"], single(reference, sample), rtol=1e-3, atol=1e-3)


@pytest.mark.download
def test_a_recurrent_model_keeps_the_states_of_its_streams_apart() -> None:
    """Eight audio streams, each with its own state, which has its batch second, against one after the other."""
    session = open_session(real_model("silero-vad-16k"))
    random = np.random.default_rng(0)
    streams = [random.standard_normal((10, 512)).astype(np.float32) * 0.1 for _ in range(8)]
    rate = np.array(16000, np.int64)
    found: dict[int, list[float]] = {}
    with DynamicBatcher(
        session, max_batch=8, shared={"sr": rate}, axes={"state": 1, "stateN": 1}, max_delay_s=0.005
    ) as batcher:
        together = threading.Barrier(8)

        def listen(number: int) -> None:
            together.wait(60)
            state = np.zeros((2, 128), np.float32)
            found[number] = []
            for chunk in streams[number]:
                outputs = batcher.run({"input": chunk, "state": state}, timeout=60)
                state = outputs["stateN"]
                found[number].append(float(outputs["output"][0]))

        threads = [threading.Thread(target=listen, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert batcher.statistics().mean_size > 1
    for number, stream in enumerate(streams):
        state = np.zeros((2, 1, 128), np.float32)
        for chunk, answer in zip(stream, found[number]):
            outputs = session.run({"input": chunk[None], "state": state, "sr": rate})
            state = outputs["stateN"]
            assert answer == pytest.approx(float(outputs["output"][0, 0]), abs=1e-5)
