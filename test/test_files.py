"""Files are written atomically."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from superpoint_ros.io.files import atomic_write, write_text


def test_a_file_appears_complete_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with atomic_write(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        assert partial.parent == path.parent
        assert partial.suffix == ".partial"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("trouble", [OSError("no space"), ValueError("no number"), KeyboardInterrupt()])
def test_a_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path, trouble):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(type(trouble)), atomic_write(path) as partial:
        partial.write_text("half")
        raise trouble
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_full_disk_is_reported_and_keeps_the_old_file(tmp_path):
    """A file size limit simulates a full disk."""
    path = tmp_path / "a.txt"
    write_text(path, "grüße")
    assert path.read_bytes() == "grüße".encode()
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "from superpoint_ros.io.files import write_text; write_text(sys.argv[1], 'x' * 5000)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"OSError: [Errno 27] {os.strerror(27)}"
    assert path.read_bytes() == "grüße".encode()
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_pipe_is_written_in_place(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text(encoding="utf-8")), daemon=True)
    read = []
    reader.start()
    write_text(pipe, "text")
    reader.join(timeout=10)
    assert read == ["text"]
    assert pipe.is_fifo()


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        write_text(tmp_path / "missing" / "a.txt", "text")


def test_processes_that_write_the_same_file_at_once_do_not_corrupt_it(tmp_path):
    path = tmp_path / "a.txt"
    code = (
        "import sys; from superpoint_ros.io.files import write_text\n"
        "for _ in range(200): write_text(sys.argv[1], sys.argv[2] * 100_000)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), letter]) for letter in "ab"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            seen.add(path.read_text())
    assert [writer.wait() for writer in writers] == [0, 0]
    assert seen and seen <= {"a" * 100_000, "b" * 100_000}
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_killed_program_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = (
        "import os, signal, sys; from superpoint_ros.io.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as partial:\n"
        "    partial.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -signal.SIGKILL
    assert path.read_text() == "old"
