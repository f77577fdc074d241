"""The options of ONNX Runtime sessions do what they say, and what they cannot do is refused."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edgec.errors import EdgecError
from edgec.runtime.isolation import open_isolated
from edgec.runtime.onnxruntime import OnnxRuntimeSession, open_session

from .nets import sample, save_net, save_product
from .process import growth, settled_threads, threads

FACTORY = "edgec.runtime.onnxruntime:open_session"
MB = 1 << 20


def refused(code: str, path: Path, **options: Any) -> EdgecError:
    with pytest.raises(EdgecError) as caught:
        open_session(path, **options)
    assert caught.value.code == code, str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    "options",
    [
        {"threads": 2},
        {"optimise": "none"},
        {"optimise": "basic"},
        {"optimise": "extended"},
        {"optimise": False},
        {"execution_mode": "parallel", "inter_threads": 2},
        {"arena": False},
        {"memory_pattern": True},
        {"arena_extend": "same-as-requested"},
        {"arena_extend": "power-of-two", "initial_chunk": 4 * MB},
        {"device_limit": 64 * MB},
        {"spinning": True},
        {"provider": "CPUExecutionProvider"},
    ],
    ids=str,
)
def test_every_option_computes_the_same(tmp_path: Path, options: dict[str, Any]) -> None:
    path = save_net(tmp_path / "m.onnx")
    expected = open_session(path).run({"x": sample()})["y"]
    session = open_session(path, **options)
    for _ in range(3):
        np.testing.assert_allclose(session.run({"x": sample()})["y"], expected, rtol=1e-4, atol=1e-6)
    session.close()


def test_the_settings_reach_onnx_runtime(tmp_path: Path) -> None:
    session = open_session(
        save_net(tmp_path / "m.onnx"),
        threads=2,
        optimise="extended",
        execution_mode="parallel",
        inter_threads=3,
        arena=False,
        spinning=True,
    )
    assert isinstance(session, OnnxRuntimeSession)
    found = session._session.get_session_options()
    assert (found.intra_op_num_threads, found.inter_op_num_threads) == (2, 3)
    assert found.execution_mode == onnxruntime.ExecutionMode.ORT_PARALLEL
    assert found.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    assert not found.enable_cpu_mem_arena
    assert found.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    plain = open_session(save_net(tmp_path / "m.onnx"))
    assert isinstance(plain, OnnxRuntimeSession)
    assert plain._session.get_session_options().get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert plain._session.get_session_options().get_session_config_entry("session.x64quantprecision") == "1"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"threads": 0}, "threads"),
        ({"threads": True}, "threads"),
        ({"optimise": "most"}, "optimise"),
        ({"execution_mode": "both"}, "execution_mode"),
        ({"inter_threads": 2}, "parallel"),
        ({"memory_pattern": True, "execution_mode": "parallel"}, "memory_pattern"),
        ({"arena": "yes"}, "arena"),
        ({"arena": False, "device_limit": MB}, "arena"),
        ({"arena_extend": "slowly"}, "arena_extend"),
        ({"initial_chunk": -1}, "initial_chunk"),
        ({"provider": "abacus"}, "provider"),
        ({"cuda_graph": True}, "cuda_graph"),
        ({"require_delegate": True}, "require_delegate"),
        ({"provider": "qnn", "device_limit": MB}, "device_limit"),
        ({"specialise": 2}, "fixed shape"),
        ({"delegates": []}, "delegates"),
    ],
    ids=str,
)
def test_contradictions_and_wrong_values_are_refused(tmp_path: Path, options: dict[str, Any], word: str) -> None:
    assert word in str(refused("EDG040", save_net(tmp_path / "m.onnx"), **options))


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is here")
def test_an_absent_provider_is_an_error_and_no_fallback(tmp_path: Path) -> None:
    error = refused("EDG522", save_net(tmp_path / "m.onnx"), provider="cuda", cuda_graph=True)
    assert "onnxruntime-gpu" in str(error) and error.exit_code == 5


def test_the_arena_keeps_to_its_limit(tmp_path: Path) -> None:
    """Each of the values is 8 x 512 x 512 floats, 8 MB, and more than one lives at a time."""
    path = save_net(tmp_path / "m.onnx", size=512)
    x = sample(size=512)
    tight = open_session(path, device_limit=12 * MB, arena_extend="same-as-requested")
    with pytest.raises(EdgecError, match="cannot run") as caught:
        tight.run({"x": x})
    assert caught.value.code == "EDG303" and "Available memory" in str(caught.value.why)
    roomy = open_session(path, device_limit=64 * MB, arena_extend="same-as-requested")
    np.testing.assert_allclose(roomy.run({"x": x})["y"], open_session(path).run({"x": x})["y"], rtol=1e-5)


@pytest.mark.skipif(
    not hasattr(onnxruntime.InferenceSession, "create_ortvalue_from_shape_and_type"),
    reason="this version of ONNX Runtime does not tell whether its arena keeps to its limit",
)
def test_a_limit_below_the_constants_is_refused(tmp_path: Path) -> None:
    """ONNX Runtime itself would drop the limit then, without a word."""
    path = save_product(tmp_path / "m.onnx")
    assert "constants" in str(refused("EDG302", path, device_limit=256 * 1024))
    open_session(path, device_limit=4 * MB).run({"x": np.ones((1, 512), np.float32)})


def test_sessions_with_different_arenas_live_side_by_side(tmp_path: Path) -> None:
    path, x = save_net(tmp_path / "m.onnx", size=512), sample(size=512)
    tight = open_session(path, device_limit=12 * MB, arena_extend="same-as-requested")
    roomy = open_session(path, device_limit=128 * MB)
    plain = open_session(path)
    for _ in range(2):
        with pytest.raises(EdgecError):
            tight.run({"x": x})
        roomy.run({"x": x})
        plain.run({"x": x})


@pytest.mark.parametrize("batch", ["n", None], ids=["named", "unnamed"])
def test_specialised_sessions_are_kept_within_their_bound(tmp_path: Path, batch: str | None) -> None:
    path = save_net(tmp_path / "m.onnx", batch=batch)
    session = open_session(path, specialise=2)
    general = open_session(path)
    assert session.inputs == general.inputs
    for count in (1, 2, 1, 3, 1):
        np.testing.assert_allclose(
            session.run({"x": sample(count)})["y"], general.run({"x": sample(count)})["y"], rtol=1e-5
        )
    assert [shapes["x"][0] for shapes in session.shapes] == [3, 1]  # type: ignore[union-attr]
    inner = next(reversed(session._sessions.values()))  # type: ignore[union-attr]
    assert inner.inputs[0].shape == (1, 8, 64, 64)
    session.close()
    with pytest.raises(EdgecError, match="closed"):
        session.run({"x": sample()})


def test_extents_of_the_same_name_but_different_size_are_specialised_too(tmp_path: Path) -> None:
    import onnx

    path = save_net(tmp_path / "m.onnx")
    model = onnx.load(path)
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "?"
    onnx.save(model, path)
    session = open_session(path, specialise=1)
    x = np.ascontiguousarray(sample()[:, :, :32])
    np.testing.assert_allclose(session.run({"x": x})["y"], open_session(path).run({"x": x})["y"], rtol=1e-5)


def test_many_threads_may_run_one_session(tmp_path: Path) -> None:
    path = save_net(tmp_path / "m.onnx", batch="n")
    for options in ({"threads": 2}, {"specialise": 2}):
        session = open_session(path, **options)
        expected = {seed: open_session(path).run({"x": sample(1 + seed % 3, seed=seed)})["y"] for seed in range(6)}
        wrong: list[int] = []

        def work(seed: int) -> None:
            for _ in range(20):
                y = session.run({"x": sample(1 + seed % 3, seed=seed)})["y"]  # noqa: B023
                if not np.allclose(y, expected[seed], rtol=1e-4):  # noqa: B023
                    wrong.append(seed)  # noqa: B023

        workers = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not wrong
        session.close()


def test_closing_ends_the_threads_of_the_runtime(tmp_path: Path) -> None:
    path = save_net(tmp_path / "m.onnx")
    open_session(path).run({"x": sample()})
    gc.collect()  # sessions that other tests left in a traceback
    before = threads()
    for _ in range(5):
        session = open_session(path, threads=4)
        session.run({"x": sample()})
        assert threads() >= before + 3
        session.close()
        assert settled_threads(before) <= before


def test_closing_gives_memory_back(tmp_path: Path) -> None:
    """A session of about 24 MB; twenty that kept theirs would add 480."""
    path, x = save_net(tmp_path / "m.onnx", size=512), sample(size=512)

    def cycle() -> None:
        session = open_session(path)
        session.bind()
        session.run({"x": x})
        session.close()

    assert growth(cycle) < 64 * MB


def test_a_closed_session_says_so(tmp_path: Path) -> None:
    session = open_session(save_net(tmp_path / "m.onnx"))
    session.close()
    session.close()
    with pytest.raises(EdgecError, match="closed") as caught:
        session.run({"x": sample()})
    assert caught.value.code == "EDG303"


def test_options_travel_to_an_isolated_session(tmp_path: Path) -> None:
    path = save_net(tmp_path / "m.onnx")
    session = open_isolated(FACTORY, path, {"threads": 2, "optimise": "basic", "device_limit": 64 * MB})
    np.testing.assert_allclose(
        session.run({"x": sample()})["y"], open_session(path).run({"x": sample()})["y"], rtol=1e-4
    )
    session.close()
    with pytest.raises(EdgecError) as caught:
        open_isolated(FACTORY, path, {"inter_threads": 2})
    assert caught.value.code == "EDG040" and caught.value.help
