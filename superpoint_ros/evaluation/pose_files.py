"""Read text files of stamped images and poses, and interpolate poses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.evaluation.calibration import read_text

Times = NDArray[np.float64]
Poses = NDArray[np.float64]


def interpolate_poses(times: NDArray[np.float64], stamps: NDArray[np.float64], poses: Poses) -> Poses:
    """Interpolate poses: (N,) times, (M,) ascending stamps, (M, 4, 4) poses -> (N, 4, 4).

    Positions are interpolated linearly, rotations by slerp; outside the stamps the nearest pose is used.
    """
    from scipy.spatial.transform import Rotation, Slerp

    result = np.tile(np.eye(4), (len(times), 1, 1))
    if not len(times):
        return result
    if len(stamps) == 1:
        result[:] = poses[0]
        return result
    inside = np.clip(times, stamps[0], stamps[-1])
    result[:, :3, :3] = Slerp(stamps, Rotation.from_matrix(poses[:, :3, :3]))(inside).as_matrix()
    for axis in range(3):
        result[:, axis, 3] = np.interp(inside, stamps, poses[:, axis, 3])
    return result


def distance_to_nearest(times: NDArray[np.float64], stamps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute how far each of (N,) times is from the nearest of (M,) ascending stamps; infinitely far if M is 0."""
    if not len(stamps):
        return np.full(len(times), np.inf)
    after = np.searchsorted(stamps, times).clip(1, max(len(stamps) - 1, 1))
    distances = [np.abs(times - stamps[place.clip(max=len(stamps) - 1)]) for place in (after - 1, after)]
    return np.asarray(np.minimum(*distances))


def read_stamped_names(path: Path, separator: str | None, unit: float) -> tuple[NDArray[np.float64], list[str]]:
    """Read a list of stamps and file names; return times in seconds and names, sorted by time."""
    entries = []
    for number, line in _lines(path):
        words = [word.strip() for word in line.split(separator)]
        try:
            entries.append((float(words[0]) * unit, words[1]))
        except (ValueError, IndexError):
            raise ValueError(
                f"line {number} of '{path}' is '{line[:60]}', allowed is a time stamp and an image"
            ) from None
    entries.sort()
    return np.array([time for time, _ in entries]), [name for _, name in entries]


def read_stamped_poses(
    path: Path, separator: str | None, unit: float, scalar_first: bool
) -> tuple[NDArray[np.float64], Poses]:
    """Read a list of time, position and quaternion; return ascending times in seconds and (N, 4, 4) poses."""
    from scipy.spatial.transform import Rotation

    rows = read_table(path, separator, 8)
    order = np.unique(rows[:, 0], return_index=True)[1]
    rows = rows[order]
    quaternions = rows[:, [5, 6, 7, 4]] if scalar_first else rows[:, 4:8]
    if not np.all(np.linalg.norm(quaternions, axis=1) > 0.5):
        raise ValueError(f"file '{path}' has a quaternion that is not a rotation")
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    if len(rows):
        poses[:, :3, :3] = Rotation.from_quat(quaternions).as_matrix()
        poses[:, :3, 3] = rows[:, 1:4]
    return rows[:, 0] * unit, poses


def read_table(path: Path, separator: str | None, columns: int) -> NDArray[np.float64]:
    """Read the first `columns` numbers of every line as (N, columns)."""
    rows = []
    for number, line in _lines(path):
        words = line.split(separator)
        try:
            row = [float(word) for word in words[:columns]]
        except ValueError:
            row = []
        if len(row) < columns or not np.all(np.isfinite(row)):
            raise ValueError(f"line {number} of '{path}' is '{line[:60]}', allowed are {columns} numbers")
        rows.append(row)
    return np.array(rows, np.float64).reshape(-1, columns)


def _lines(path: Path) -> list[tuple[int, str]]:
    """Return the numbered lines that are neither empty nor comments."""
    numbered = enumerate(read_text(path).splitlines(), 1)
    return [(number, line.strip()) for number, line in numbered if line.strip() and not line.lstrip().startswith("#")]
