"""Fixtures of the tests on a real ROS 2: a context of rclpy, and processes that end with the test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

import pytest


@pytest.fixture
def context():
    import rclpy  # not above: without ROS 2 these tests are skipped, not broken

    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    rclpy.shutdown(context=context)


def _own_session() -> None:
    """`ros2 run` starts the node as its child: in a session of its own both can be signalled, and none is left over."""
    os.setsid()
    # A shell's background jobs ignore Ctrl-C, and their children inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start():
    processes = []

    def start(*words):
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_own_session
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
