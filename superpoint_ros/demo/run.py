"""Start the demo's processes, show live figures and write the summary."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from superpoint_ros.demo.camera import IMAGE_TOPIC, INFO_TOPIC, RIGHT_INFO_TOPIC, RIGHT_TOPIC
from superpoint_ros.demo.monitor import Monitor
from superpoint_ros.demo.recorder import Recorder
from superpoint_ros.demo.sources import ROOM, STEREO_ROOM
from superpoint_ros.simulation.room import Room

_log = logging.getLogger(__name__)

_ROWS = {
    "features_hz": "rate (Hz)",
    "latency_ms_median": "latency, median (ms)",
    "latency_ms_p95": "latency, 95 % (ms)",
    "keypoints_median": "keypoints, median",
    "matches_median": "matches, median",
    "inlier_ratio_median": "inlier ratio, median",
    "status_ok_ratio": "share of valid homographies",
    "match_error_px_median": "match error, median (px)",
    "right_match_ratio": "share of matches within 3 px",
    "corner_error_px_median": "corner error, median (px)",
    "corner_error_px_p95": "corner error, 95 % (px)",
    "odometry_path_m": "path (m)",
    "odometry_drift_percent": "drift of the odometry (% of the path)",
}
_MIN_FRACTION = 0.95
_RECENT_FRAMES = 30


@dataclass(frozen=True)
class DemoOptions:
    """Options of the demo, see `superpoint-ros demo --help`."""

    source: str
    rate: float
    seconds: float
    output: Path
    assignments: Sequence[str] = ()
    quiet: bool = False


class DemoError(ValueError):
    """The demo failed; the message is one sentence."""


def run(options: DemoOptions) -> dict[str, Any]:
    """Run the demo and return its summary, which is also written to summary.json.

    Raises:
        DemoError: if a process failed or outputs did not arrive.
    """
    options.output.mkdir(parents=True, exist_ok=True)
    # Keep all traffic of the demo on this machine.
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.pop("ROS_STATIC_PEERS", None)
    recorder = Recorder(options.output, options.rate)
    stereo, posed = options.source == STEREO_ROOM, options.source in (ROOM, STEREO_ROOM)
    monitor = Monitor(recorder, Room() if posed else None, "left" if stereo else "")
    detector_log = options.output / "detector.log"
    processes: list[subprocess.Popen[str]] = []
    try:
        with open(detector_log, "w", encoding="utf-8") as log, ExitStack() as stack:
            words = _detector(stereo)
            for assignment in options.assignments:
                words += ["-p", assignment]
            processes.append(detector := _start(words, stderr=log))
            _await_answer(lambda: bool(monitor.counters), "the detector", detector, detector_log)
            if posed and importlib.util.find_spec("gtsam") is None:
                _log.info("the odometry is left out: pip install 'superpoint_ros[odometry]' adds it")
            elif posed:
                path = options.output / "odometry.log"
                odometry_log = stack.enter_context(open(path, "w", encoding="utf-8"))
                processes.append(odometry := _start(_odometry(stereo), stderr=odometry_log))
                _await_answer(lambda: bool(monitor.odometry), "the odometry", odometry, path)
            words = ["demo", "--role", "camera", "--source", options.source, "--rate", str(options.rate)]
            words += ["--seconds", str(options.seconds)]
            processes.append(camera := _start(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
            _watch(camera, detector, monitor, options.quiet)
            published, skipped = _camera_result(camera)
            _await_results(monitor, published)
    finally:
        for process in reversed(processes):
            _stop(process)
        monitor.close()
        recorder.close()
    monitor.trajectory.draw(options.output / "trajectory.png")
    summary = {"source": options.source, "frames": published, "left_out": skipped}
    summary |= {**_frame_counts(monitor, published), **monitor.summary()}
    path = options.output / "summary.json"
    path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    _check(summary)
    return summary


def table(summary: dict[str, Any], title: str, counters: dict[str, str]) -> Table:
    """Format the summary as a table for the terminal."""
    result = Table(title=title, show_header=False)
    result.add_column(style="bold")
    result.add_column(justify="right")
    for key, label in _ROWS.items():
        value = summary.get(key)
        result.add_row(label, "-" if value is None else f"{value:g}")
    for name in ("received", "processed", "dropped", "failed"):
        result.add_row(name, counters.get(name, "-"))
    return result


def _detector(stereo: bool) -> list[str]:
    """Return the words of the command that starts the detector on the demo's camera or pair."""
    topics = {"image": IMAGE_TOPIC, "camera_info": INFO_TOPIC}
    if stereo:
        topics = {"left/image": IMAGE_TOPIC, "left/camera_info": INFO_TOPIC, "right/image": RIGHT_TOPIC,
                  "right/camera_info": RIGHT_INFO_TOPIC}  # fmt: skip
    words = ["detector", *(["-p", "cameras:=[left, right]", "-p", "stereo:=true"] if stereo else [])]
    return words + [word for name, topic in topics.items() for word in ("-r", f"{name}:={topic}")]


def _odometry(stereo: bool) -> list[str]:
    info = "left/camera_info" if stereo else "camera_info"
    words = ["odometry", *(["-p", "camera:=left", "-p", "stereo:=true"] if stereo else [])]
    return [*words, "-r", f"{info}:={INFO_TOPIC}"]


def _start(words: Sequence[str], **streams: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "superpoint_ros", *words], text=True, **streams)


def _await_answer(
    answered: Callable[[], bool], name: str, process: subprocess.Popen[str], log: Path, timeout: float = 60.0
) -> None:
    """Wait for a process's first diagnostics."""
    deadline = time.monotonic() + timeout
    while not answered():
        if process.poll() is not None:
            raise DemoError(f"{name} stopped: {_last_line(log.read_text(encoding='utf-8'))}")
        if time.monotonic() > deadline:
            raise DemoError(f"{name} did not answer within {timeout:g} s, see '{log}'")
        time.sleep(0.1)


def _watch(camera: subprocess.Popen[str], detector: subprocess.Popen[str], monitor: Monitor, quiet: bool) -> None:
    console = Console(stderr=True)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while camera.poll() is None and detector.poll() is None:
            time.sleep(0.5)
            if console.is_terminal and not quiet:
                live.update(
                    table(monitor.summary(_RECENT_FRAMES), "SuperPoint live", monitor.counters),
                    refresh=True,
                )
    if detector.poll() is not None:
        raise DemoError(f"the detector stopped with exit code {detector.returncode}")


def _camera_result(camera: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Return the number of frames that the camera published, and a sentence for each file that it skipped."""
    out, errors = camera.communicate(timeout=10)
    if camera.returncode != 0:
        raise DemoError(f"the camera stopped: {_last_line(errors)}")
    result = json.loads(out)
    return int(result["frames"]), list(result["left_out"])


def _await_results(monitor: Monitor, published: int, timeout: float = 10.0) -> None:
    """Wait for the last results, and for diagnostics that include them."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        counted = sum(max(monitor.count(name), 0) for name in ("processed", "dropped", "failed"))
        if counted >= published and monitor.summary()["homography_messages"] >= monitor.count("processed"):
            return
        time.sleep(0.1)


def _frame_counts(monitor: Monitor, published: int) -> dict[str, int]:
    counts = {name: monitor.count(name) for name in ("received", "processed", "dropped", "failed")}
    return {**counts, "lost": published - counts["received"]}


def _check(summary: dict[str, Any]) -> None:
    processed = summary["processed"]
    for name in ("features_messages", "homography_messages", "annotated_messages"):
        if summary[name] < max(1, _MIN_FRACTION * processed):
            raise DemoError(f"only {summary[name]} {name.replace('_', ' ')} arrived of {processed} processed frames")


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
