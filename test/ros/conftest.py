"""Fixtures for a real ROS 2: an rclpy context, and processes that end with the test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

import pytest


@pytest.fixture
def context():
    import rclpy  # not at the top: without ROS 2 these tests are skipped

    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    rclpy.shutdown(context=context)


def _own_session() -> None:
    """Start a process in a new session: `ros2 run` starts the node as a child, and both must be signalled."""
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
