"""The output folder: read-only, full, used twice, interrupted; whatever happens, nothing half-written is left."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgec.cli.main import main
from edgec.converter.output import LOCK, OutputFolder, not_writable
from edgec.errors import EdgecError
from tests.command import DIGITS, ROOT, edgec, environment

CONVERT = ["convert", str(DIGITS), "--target", "onnxruntime", "-o"]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """An output folder with an artifact of an earlier run in it."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"old and good")
    (folder / "manifest.json").write_text("{}", encoding="utf-8")
    return folder


def untouched(folder: Path) -> bool:
    return (
        sorted(item.name for item in folder.iterdir()) == ["manifest.json", "model.onnx"]
        and (folder / "model.onnx").read_bytes() == b"old and good"
    )


def test_a_file_where_the_folder_should_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("a file", encoding="utf-8")
    for output in (tmp_path / "out", tmp_path / "out/below"):
        assert main([*CONVERT, str(output)]) == 2
        assert capsys.readouterr().err.startswith("EDG010")
    assert (tmp_path / "out").read_text(encoding="utf-8") == "a file"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a /proc that nobody can write to")
def test_a_folder_that_cannot_be_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CONVERT, "/proc/self/edgec"]) == 2
    assert capsys.readouterr().err.startswith("EDG010")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into every folder")
def test_a_read_only_folder(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old.chmod(0o555)
    try:
        assert main([*CONVERT, str(old)]) == 2
    finally:
        old.chmod(0o755)
    assert capsys.readouterr().err.startswith("EDG010")
    assert untouched(old)


def test_a_read_only_folder_whoever_runs(
    old: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(old))

    monkeypatch.setattr("edgec.converter.output.tempfile.mkdtemp", refuse)
    assert main([*CONVERT, str(old)]) == 2
    assert capsys.readouterr().err.startswith("EDG010")
    assert untouched(old)


def test_a_full_disk(old: Path) -> None:
    """A limit on the size of files stands for the full disk: the write fails half-way in the same manner."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    result = edgec(*CONVERT, old, "--json", before=limit)
    assert result.code == 2
    assert result.document["error"]["code"] == "EDG011"
    assert untouched(old)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB, where the machine lets us mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if mount is None or os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a file system here")
    yield place
    subprocess.run(["umount", str(place)], check=False)


def test_a_disk_that_is_really_full(tiny_disk: Path) -> None:
    (tiny_disk / "filler").write_bytes(b"\0" * 40_000)
    result = edgec(*CONVERT, tiny_disk / "out", "--json")
    assert result.code == 2
    assert result.document["error"]["code"] == "EDG011"
    assert [item.name for item in tiny_disk.iterdir()] == ["filler"]


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second disk")
def test_a_full_disk_may_be_that_of_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed write does not say which; where both are one disk there is nothing to choose from."""
    if os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second disk")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for temporary, named in (("/dev/shm", True), (str(tmp_path), False)):
        monkeypatch.setattr(tempfile, "tempdir", temporary)
        error = not_writable(tmp_path / "not/yet/there", full)
        assert error.code == "EDG011" and (f"temporary folder '{temporary}'" in (error.where or "")) is named
        assert ("$TMPDIR" in (error.help or "")) is named


def test_two_runs_into_the_same_folder(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with OutputFolder(old):
        assert main([*CONVERT, str(old)]) == 2
        assert capsys.readouterr().err.startswith("EDG012")
    assert untouched(old)
    assert main([*CONVERT, str(old)]) == 0


def test_what_a_killed_run_left_is_no_obstacle(old: Path) -> None:
    (old / LOCK).write_bytes(b"")
    (old / ".edgec-working-stale").mkdir()
    (old / ".edgec-working-stale/model.onnx").write_bytes(b"half")
    assert main([*CONVERT, str(old)]) == 0
    assert sorted(item.name for item in old.iterdir()) == ["manifest.json", "model.onnx", "model.session.json"]


def test_many_runs_at_once_never_share_the_folder(tmp_path: Path) -> None:
    """However the runs meet, each either holds the folder alone or is told so."""
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom edgec.converter.output import OutputFolder\n"
        "from edgec.errors import EdgecError\nheld = Path(sys.argv[1]) / 'held'\n"
        "for _ in range(200):\n"
        "    try:\n"
        "        with OutputFolder(Path(sys.argv[1]) / 'out') as place:\n"
        "            held.mkdir()\n"
        "            held.rmdir()\n"
        "    except EdgecError as error:\n"
        "        assert error.code == 'EDG012', error\n"
    )
    runs = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], env=environment()) for _ in range(3)]
    assert [run.wait(timeout=600) for run in runs] == [0, 0, 0]
    assert list(tmp_path.glob("*/*")) == []


def test_a_link_that_leads_nowhere_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "absent" / "folder")
    with pytest.raises(EdgecError) as caught, OutputFolder(tmp_path / "out"):
        pass
    assert caught.value.code == "EDG010"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("existing", [False, True])
def test_an_interrupted_run_leaves_nothing_behind(number: signal.Signals, existing: bool, tmp_path: Path) -> None:
    """The signal comes while the artifact is there but not verified, and comes again during the clean-up."""
    out = tmp_path / "new" / "out"
    if existing:
        out.mkdir(parents=True)
        (out / "model.onnx").write_bytes(b"old and good")
        (out / "manifest.json").write_text("{}", encoding="utf-8")
    script = (
        "import sys, time\nimport edgec.converter.convert as convert\nfrom edgec.cli.main import main\n"
        "def wait(prepared, lowered, file, spec, samples):\n"
        "    assert file.stat().st_size > 0\n"
        "    print('verifying', file=sys.stderr, flush=True)\n"
        "    time.sleep(60)\n"
        "convert._verify = wait\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, *CONVERT, str(out), "--json"],
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "verifying\n"
    process.send_signal(number)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert json.loads(stdout)["error"]["code"] == "EDG020"
    assert stderr.lstrip().startswith("EDG020")
    if existing:
        assert untouched(out)
    else:
        assert list(tmp_path.iterdir()) == []


def test_a_run_interrupted_at_any_moment_leaves_everything_or_nothing(tmp_path: Path) -> None:
    """Twelve moments spread over a whole run, whatever it is doing then."""
    begin = time.monotonic()
    assert edgec(*CONVERT, tmp_path / "whole").code == 0
    whole = time.monotonic() - begin
    for moment in range(12):
        out = tmp_path / "interrupted"
        process = subprocess.Popen(
            [sys.executable, "-m", "edgec", *CONVERT, str(out)],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(0.1 + whole * moment / 12)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=300)
        code = process.returncode
        # Before Python has begun to run edgec the signal ends the process itself.
        assert code in (0, 130, -signal.SIGTERM), stderr
        if out.exists():  # the signal came after everything was in place
            names = sorted(item.name for item in out.iterdir())
            assert names == ["manifest.json", "model.onnx", "model.session.json"], (moment, code)
            shutil.rmtree(out)
        else:
            assert code != 0


def test_steps_that_belong_together_are_not_torn_apart_by_a_signal_that_another_thread_takes() -> None:
    from edgec.converter.output import _uninterrupted

    finished = threading.Event()
    other = threading.Thread(target=finished.wait)
    other.start()
    together = False
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is born ignoring it
    try:
        with pytest.raises(KeyboardInterrupt), _uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            together = True
    finally:
        finished.set()
        other.join()
        restored = signal.signal(signal.SIGINT, before)
    assert together
    assert restored is signal.default_int_handler


@pytest.mark.parametrize("published", [True, False])
def test_a_signal_while_the_folder_is_given_back_leaves_no_lock_file(
    tmp_path: Path, published: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree

    def interrupted(path: Path, **options: bool) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        remove(path, **options)

    monkeypatch.setattr("edgec.converter.output.shutil.rmtree", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is born ignoring it
    try:
        with pytest.raises(KeyboardInterrupt), OutputFolder(tmp_path / "out") as place:
            manifest = place.working / "manifest.json"
            manifest.write_bytes(b"{}")
            if published:
                place.publish([], manifest)
    finally:
        signal.signal(signal.SIGINT, before)
    left = [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))]
    assert left == (["out", "out/manifest.json"] if published else [])


def test_the_source_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "model.onnx"
    shutil.copy(DIGITS, source)
    assert main(["convert", str(source), "--target", "onnxruntime", "-o", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("EDG015")
    assert source.read_bytes() == DIGITS.read_bytes()
    assert list(tmp_path.iterdir()) == [source]


def test_a_folder_that_was_not_published_is_removed_again(tmp_path: Path) -> None:
    with pytest.raises(EdgecError), OutputFolder(tmp_path / "a/b/c") as place:
        (place.working / "half").write_bytes(b"half")
        raise EdgecError("EDG301", "made for this test")
    assert list(tmp_path.iterdir()) == []
