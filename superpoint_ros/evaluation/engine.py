"""Many independent tasks: in this process, in several, or on every machine of a Ray cluster."""

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
    """How tasks are spread.

    Attributes:
        processes: on this machine; 1 works in the caller's own.
        ray: None for no Ray, "" for a Ray of this machine alone, or the address of a running cluster. Every machine of
            a cluster needs this package and the dataset at the same path; each keeps predictions in its own folder.
    """

    processes: int = 1
    ray: str | None = None

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task], what: str) -> Iterator[Result]:
        """Results in the order in which they are ready, with a progress bar on stderr.

        A failing task ends the run with its exception; so does Ctrl-C, after the tasks that are under way.

        Args:
            function: of a module, so that other processes can import it.
            what: shown beside the bar.

        Raises:
            ValueError: if Ray is wanted and not installed, or its cluster cannot be reached.
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
            yield from _with_ray(function, tasks, self.ray, self.processes)
        elif self.processes > 1 and len(tasks) > 1:
            yield from _in_processes(function, tasks, min(self.processes, len(tasks)))
        else:
            yield from map(function, tasks)


def _in_processes(function: Callable[[Task], Result], tasks: Sequence[Task], processes: int) -> Iterator[Result]:
    import multiprocessing

    threads = max(1, (os.cpu_count() or 1) // processes)
    # A forked process hangs where PyTorch or OpenCV has threads already.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, spawn, _prepare_process, (threads,))
    try:
        for future in as_completed([pool.submit(function, task) for task in tasks]):
            yield future.result()
    finally:
        # Not `with`: its own shutdown would take the cancelling back.
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare_process(threads: int) -> None:
    """Share the processor's cores; leave Ctrl-C to the process that started this one."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # PyTorch reads it, if it is imported at all
    cv2.setNumThreads(threads)


def _with_ray(
    function: Callable[[Task], Result], tasks: Sequence[Task], address: str, processes: int
) -> Iterator[Result]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
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
        # No more tasks are handed out than the cluster can soon take, so that Ctrl-C leaves little behind.
        room = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting = list(tasks)
        running = [remote.remote(task) for task in waiting[:room]]
        del waiting[:room]
        while running:
            done, running = ray.wait(running)
            if waiting:
                running.append(remote.remote(waiting.pop(0)))
            yield ray.get(done[0])
    finally:
        ray.shutdown()
