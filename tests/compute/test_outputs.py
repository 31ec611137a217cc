# ruff: noqa: PT012 -- the staged output is the context under test
import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from fairstem.compute import outputs
from fairstem.errors import OutputError


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_file_appears_whole(tmp_path):
    target = tmp_path / "a" / "b" / "table.csv"
    with outputs.staged_output(target) as staged:
        staged.write_text("y,x\n")
        assert not target.exists()
        assert staged.suffix == ".csv"
    assert names(tmp_path) == ["a/b/table.csv"]


def test_a_folder_appears_whole(tmp_path):
    with outputs.staged_output(tmp_path / "out", folder=True) as staged:
        (staged / "sub").mkdir()
        (staged / "sub" / "x.txt").write_text("x")
        (staged / "y.txt").write_text("y")
    assert names(tmp_path) == ["out/sub/x.txt", "out/y.txt"]


@pytest.mark.parametrize("stop", [ValueError("bug"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("folder", [False, True])
def test_nothing_is_left_when_the_work_stops(tmp_path, stop, folder):
    with pytest.raises(type(stop)), outputs.staged_output(tmp_path / "deep" / "out", folder=folder) as staged:
        (staged / "half" if folder else staged).write_text("half")
        raise stop
    assert list(tmp_path.iterdir()) == []


def test_existing_output_needs_permission_and_survives_a_failure(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(OutputError, match="exists already"), outputs.staged_output(target):
        pass
    with pytest.raises(RuntimeError), outputs.staged_output(target, overwrite=True) as staged:
        staged.write_text("new")
        raise RuntimeError
    assert target.read_text() == "old"
    outputs.write_text(target, "new", overwrite=True)
    assert names(tmp_path) == ["a.txt"]
    assert target.read_text() == "new"


def test_overwriting_a_folder_keeps_the_other_files(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    (out / "report.html").write_text("old")
    with pytest.raises(OutputError, match="not empty"), outputs.staged_output(out, folder=True):
        pass
    with outputs.staged_output(out, folder=True, overwrite=True) as staged:
        (staged / "report.html").write_text("new")
        (staged / "columns.csv").write_text("y,x")
    assert names(out) == ["columns.csv", "mine.txt", "report.html"]
    assert (out / "report.html").read_text() == "new"


def test_a_failing_replacement_is_rolled_back(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    for name in "ab":
        (out / name).write_text("old")
    real = Path.replace

    def fail(self, target):
        if self.name == "b" and "partial" in str(self):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with (
        pytest.raises(OutputError, match="no space"),
        outputs.staged_output(out, folder=True, overwrite=True) as staged,
    ):
        for name in "ab":
            (staged / name).write_text("new")
    assert names(out) == ["a", "b"]
    assert {(out / name).read_text() for name in "ab"} == {"old"}


def test_an_empty_folder_may_be_filled(tmp_path):
    with outputs.staged_output(tmp_path, folder=True) as staged:
        (staged / "x").write_text("x")
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("Can't write data (errno = 28, error message = 'No space left on device')"),
    ],
)
def test_a_full_disk_says_what_to_do_and_leaves_nothing(tmp_path, error):
    with (
        pytest.raises(OutputError, match="free some space"),
        outputs.staged_output(tmp_path / "x.hspy") as staged,
    ):
        staged.write_bytes(b"half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    monkeypatch.setattr(outputs.tempfile, "mkdtemp", refuse)
    with pytest.raises(OutputError, match="choose another output"), outputs.staged_output(tmp_path / "x"):
        pass


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(OutputError, match="is a file"), outputs.staged_output(tmp_path / "f", folder=True):
        pass
    with pytest.raises(OutputError), outputs.staged_output(tmp_path / "f" / "below"):
        pass
    with pytest.raises(OutputError, match="is a folder"), outputs.staged_output(tmp_path, overwrite=True):
        pass


def test_errors_about_something_else_pass_unchanged(tmp_path):
    with pytest.raises(FileNotFoundError), outputs.staged_output(tmp_path / "x"):
        Path(tmp_path / "input").read_text()


def test_writing_nothing_is_an_error(tmp_path):
    with pytest.raises(OutputError, match="nothing was written"), outputs.staged_output(tmp_path / "x"):
        pass


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(tmp_path, number):
    code = f"""
        import time
        from fairstem.compute import staged_output
        with staged_output({str(tmp_path / "out")!r}, folder=True) as staged:
            (staged / "half").write_text("half")
            print("ready", flush=True)
            time.sleep(60)
    """
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert run.stdout.readline().strip() == b"ready"
    time.sleep(0.1)
    run.send_signal(number)
    assert run.wait(timeout=20) != 0
    run.stdout.close()
    assert list(tmp_path.iterdir()) == []
