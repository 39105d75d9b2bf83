"""Isolate the tests on every machine: their own ROS domain, and none of the user's configuration."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

DOMAINS = range(1, 101)
"""Ports of higher domains are in Linux's ephemeral range."""

CONFIGURED = ("CYCLONEDDS_URI", "FORCE_COLOR", "ROS_LOCALHOST_ONLY", "ROS_NAMESPACE", "ROS_STATIC_PEERS")
"""Environment variables that affect commands."""

_held: list[int] = []


def isolate() -> None:
    """Set up this process and its children: a free ROS domain, and only the loopback interface."""
    for name in CONFIGURED:
        os.environ.pop(name, None)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["ROS_DOMAIN_ID"] = str(_free_domain())
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # for the discovery of training processes


def share(parallel: bool) -> Callable[[], None]:
    """Set up what all processes of a run inherit; call the result at its end.

    Compiled models are cached in a folder of the run, so that each is compiled once. Parallel tests use one core each:
    more threads would only wait for those of the others.
    """
    if parallel:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("MPLCONFIGDIR", str(cache / "matplotlib"))  # a new one would search all fonts again
    folder = tempfile.mkdtemp(prefix="superpoint_ros_cache_")
    os.environ["XDG_CACHE_HOME"] = folder
    return lambda: shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """Find a free TCP port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _free_domain() -> int:
    """Reserve a ROS domain without participants on this machine until this process exits."""
    for step in DOMAINS:
        domain = DOMAINS[(os.getpid() + step) % len(DOMAINS)]
        try:
            lock = os.open(Path(tempfile.gettempdir()) / f"superpoint_ros_domain_{domain}.lock", os.O_RDWR | os.O_CREAT)
        except OSError:
            continue  # another user's
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _probe(domain)
        except OSError:
            os.close(lock)
            continue
        _held.append(lock)
        return domain
    raise RuntimeError(f"all ROS domains from {DOMAINS[0]} to {DOMAINS[-1]} are in use on this machine")


def _probe(domain: int, participants: int = 5) -> None:
    """Bind the ports on which the first participants of a domain would listen (RTPS 2.5, 9.6.2.3)."""
    first = 7400 + 250 * domain
    for port in (first, *(first + 10 + 2 * index for index in range(participants))):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("", port))
