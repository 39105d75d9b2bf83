"""Run independent tasks in this process, in several processes, or on a Ray cluster."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Engine:
    """How tasks are distributed.

    Attributes:
        processes: number of processes on this machine; 1 runs in the caller's process.
        ray: None for no Ray, "" for a local Ray instance, or the address of a running cluster. Every machine of a
            cluster needs this package and the dataset at the same path; each has its own cache of predictions.
    """

    processes: int = 1
    ray: str | None = None

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task], what: str) -> Iterator[Result]:
        """Run tasks and yield results as they complete, with a progress bar on stderr.

        A failing task ends the run with its exception; Ctrl-C ends it after the running tasks.

        Args:
            function: module-level, so that other processes can import it.
            what: label of the progress bar.

        Raises:
            ValueError: if Ray is requested but not installed, or its cluster cannot be reached.
        """
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
            bar = progress.add_task(what, total=len(tasks))
            for result in self._results(function, tasks):
                progress.advance(bar)
                yield result

    def _results(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        if self.ray is not None:
            yield from _run_with_ray(function, tasks, self.ray, self.processes)
        elif self.processes > 1 and len(tasks) > 1:
            yield from _run_in_processes(function, tasks, min(self.processes, len(tasks)))
        else:
            yield from map(function, tasks)


def _run_in_processes(function: Callable[[Task], Result], tasks: Sequence[Task], processes: int) -> Iterator[Result]:
    import multiprocessing

    threads = max(1, (os.cpu_count() or 1) // processes)
    # A forked process hangs if PyTorch or OpenCV has already started threads.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, spawn, _prepare_process, (threads,))
    try:
        for future in as_completed([pool.submit(function, task) for task in tasks]):
            yield future.result()
    finally:
        # Not `with`: its own shutdown would not cancel pending tasks.
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare_process(threads: int) -> None:
    """Limit the threads of this process to its share of the cores, and leave Ctrl-C to the parent."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # for PyTorch, if it is imported later
    cv2.setNumThreads(threads)


def _run_with_ray(
    function: Callable[[Task], Result], tasks: Sequence[Task], address: str, processes: int
) -> Iterator[Result]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ValueError("Ray is not installed, install it with: pip install 'superpoint_ros[ray]'") from error
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address:
        options["address"] = address
    else:
        options |= {"address": "local", "num_cpus": processes if processes > 1 else None}
        options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"Ray at '{address or 'this machine'}' cannot be reached: {str(error).splitlines()[0]}"
        ) from error
    try:
        remote = ray.remote(function)
        # Submit few tasks ahead, so that Ctrl-C leaves little running.
        window = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        pending = list(tasks)
        running = [remote.remote(task) for task in pending[:window]]
        del pending[:window]
        while running:
            done, running = ray.wait(running)
            if pending:
                running.append(remote.remote(pending.pop(0)))
            yield ray.get(done[0])
    finally:
        ray.shutdown()
