"""The command line: help for every verb, one sentence for every error, and the exit codes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from superpoint_ros import __version__, cli

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def run(*words, cwd):
    """The command as a user runs it."""
    command = [sys.executable, "-m", "superpoint_ros", *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=ONE_THREAD, capture_output=True, text=True, timeout=300, check=False)


def misuse(words, capsys):
    """Return the output for a misuse."""
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert not printed.out and "usage: superpoint-ros" in printed.err
    return printed.err


@pytest.mark.parametrize("verb", cli.COMMANDS)
def test_every_command_has_help(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([verb, "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"superpoint-ros {verb}" in text and cli.COMMANDS[verb][1:20] in text


def test_the_help_lists_every_command_and_the_version_is_the_packages(capsys):
    for words, expected in ((["--help"], list(cli.COMMANDS)), (["--version"], [__version__])):
        with pytest.raises(SystemExit) as caught:
            cli.main(words)
        assert caught.value.code == 0
        text = capsys.readouterr().out
        assert all(word in text for word in expected)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "COMMAND"),
        (["frobnicate"], "'frobnicate'"),
        (["--frobnicate"], "COMMAND"),
        (["extract"], "IMAGE"),
        (["extract", "a.png", "--frobnicate"], "--frobnicate"),
    ],
)
def test_misuse_exits_with_2_shows_the_usage_and_names_what_is_wrong(words, expected, capsys):
    assert expected in misuse(words, capsys).splitlines()[-1]


def test_a_value_that_is_not_a_number_is_misuse(capsys):
    assert "--max-keypoints" in misuse(["extract", "a.png", "--max-keypoints", "many"], capsys)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["extract", "a.png", "--max-keypoints", "0"], "parameter 'max_keypoints' is 0, allowed is an integer from 1"),
        (["extract", "a.png", "--weights", "imaginary"], "'imaginary'"),
        (["extract", "a.png", "--device", "toaster"], "device 'toaster' is unknown"),
        (["extract", ".", "--weights", "default"], "contains no image"),
    ],
)
def test_an_error_is_one_sentence_on_stderr_and_exit_code_1(words, expected, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 1
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err.startswith("superpoint-ros extract: ") and expected in printed.err
    assert printed.err.count("\n") == 1 and "Traceback" not in printed.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 1, ""),
        (ValueError("two\n lines"), 1, "superpoint-ros extract: two lines\n"),
        (PermissionError(13, "Permission denied", "/out"), 1, "/out"),
        (ModuleNotFoundError("No module named 'lightning'", name="lightning"), 1, "'lightning' is missing"),
    ],
)
def test_whatever_stops_a_command_has_its_exit_code(monkeypatch, capsys, error, code, words):
    def fail(options):
        raise error

    monkeypatch.setattr("superpoint_ros.commands.extract.run", fail)
    assert cli.main(["extract", "a.png"]) == code
    printed = capsys.readouterr().err
    assert words in printed and (words or not printed) and "Traceback" not in printed


def test_the_program_exits_without_a_traceback(tmp_path, project):
    environment = {**ONE_THREAD, "PYTHONPATH": str(project)}
    command = [sys.executable, "-m", "superpoint_ros", "extract", "missing.png"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1
    assert "missing.png" in done.stderr and "does not exist" in done.stderr and "Traceback" not in done.stderr
