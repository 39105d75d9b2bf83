"""Read image sequences with ground truth poses, in the layouts of EuRoC, TUM RGB-D and KITTI odometry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.evaluation import calibration, pose_files
from superpoint_ros.evaluation.pose_files import Poses
from superpoint_ros.io.images import SUFFIXES, read_grey
from superpoint_ros.node.camera import Camera

MAX_TIME_DIFFERENCE = 0.02
"""Maximum seconds between a frame and the nearest ground truth, as in the TUM benchmark's association."""
KITTI_RATE = 10.0
"""Frames per second of KITTI sequences without times.txt."""


Points = NDArray[np.float64]
Transfer = Callable[[Points, float, float], tuple[Points, NDArray[np.bool_]]]


@dataclass(frozen=True)
class Sequence:
    """The frames of one camera, with their poses.

    Attributes:
        name: name of the sequence.
        layout: euroc, tum or kitti.
        images: N image files in order of time.
        times: (N,) seconds.
        poses: (N, 4, 4) camera to world, metres; the camera's frame is the optical one (x right, y down, z forward).
        camera: calibration of the images.
        skipped: a sentence for everything of the sequence that is not used.
        transfer: maps (N, 2) pixels of the frame at one time to the frame at another, and says which of the (N,) points
            both show; None if the depth is unknown.
    """

    name: str
    layout: str
    images: tuple[Path, ...]
    times: NDArray[np.float64]
    poses: Poses
    camera: Camera
    skipped: tuple[str, ...] = ()
    transfer: Transfer | None = None

    def __len__(self) -> int:
        return len(self.images)

    def select(self, chosen: list[int] | slice) -> Sequence:
        """Select frames by a list of indices or a slice."""
        images = self.images[chosen] if isinstance(chosen, slice) else tuple(self.images[index] for index in chosen)
        return replace(self, images=images, times=self.times[chosen], poses=self.poses[chosen])

    def part(self, start: int = 0, frames: int | None = None, every: int = 1) -> Sequence:
        """Select at most `frames` frames from `start` on, only every `every`-th of them.

        Raises:
            ValueError: if fewer than two remain.
        """
        found = self.select(slice(start, None, every)).select(slice(frames))
        if len(found) < 2:
            raise ValueError(
                f"of the {len(self)} frames of sequence '{self.name}' {len(found)} are selected, allowed is at least 2"
            )
        return found


def open_sequence(folder: str | Path, camera_info: str | Path | None = None) -> Sequence:
    """Open the sequence in a folder; the layout is recognised by its files.

    * EuRoC: `mav0/cam0/data.csv` and `sensor.yaml`, with the poses of the body in
      `mav0/state_groundtruth_estimate0/data.csv` or, in shortened copies, `mav0/groundtruth_body.csv`; else those of
      the left camera itself in `mav0/groundtruth_cam0.csv`.
    * TUM RGB-D: `rgb.txt` and `groundtruth.txt`.
    * KITTI odometry: `image_0` (or `image_l`, `image_2`), `calib.txt`, and `poses.txt` or `../../poses/NAME.txt`.

    Args:
        camera_info: YAML file with the calibration, instead of the layout's own.

    Raises:
        ValueError: in one sentence, if the layout is unknown or a file that it needs is missing or damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"sequence '{folder}' is not a folder")
    for euroc in (folder, folder / "mav0"):
        if (euroc / "cam0" / "data.csv").is_file():
            return _validate(_euroc(euroc, camera_info))
    if (folder / "rgb.txt").is_file():
        return _validate(_tum(folder, camera_info))
    for name, index in (("image_0", 0), ("image_l", 0), ("image_2", 2)):
        if (folder / name).is_dir():
            return _validate(_kitti(folder, folder / name, index, camera_info))
    raise ValueError(
        f"folder '{folder}' has none of the known layouts: EuRoC (mav0/cam0/data.csv), TUM RGB-D (rgb.txt) or "
        f"KITTI odometry (image_0)"
    )


def _validate(sequence: Sequence) -> Sequence:
    if len(sequence) < 2:
        raise ValueError(
            f"sequence '{sequence.name}' has {len(sequence)} frames with a known pose, allowed is at least 2"
            + "".join(f"; {reason}" for reason in sequence.skipped)
        )
    shape = read_grey(sequence.images[0]).shape
    if shape != sequence.camera.image_size:
        (height, width), (true_height, true_width) = sequence.camera.image_size, shape
        raise ValueError(
            f"the calibration of '{sequence.name}' is for {width}x{height} pixels and its images have "
            f"{true_width}x{true_height}"
        )
    return sequence


def _euroc(folder: Path, camera_info: str | Path | None) -> Sequence:
    data, sensor = folder / "cam0" / "data.csv", folder / "cam0" / "sensor.yaml"
    bodies = folder / "state_groundtruth_estimate0" / "data.csv", folder / "groundtruth_body.csv"
    body = next((path for path in bodies if path.is_file()), None)
    camera = folder / "groundtruth_cam0.csv"
    times, names = pose_files.read_stamped_names(data, ",", 1e-9)
    if body:
        stamps, poses = pose_files.read_stamped_poses(body, ",", 1e-9, scalar_first=True)
        poses = poses @ _extrinsics(sensor)
    elif camera.is_file():
        stamps, poses = pose_files.read_stamped_poses(camera, ",", 1e-9, scalar_first=True)
    else:
        raise ValueError(
            f"sequence '{folder}' has no ground truth, none of '{bodies[0]}', '{bodies[1]}' and '{camera}'"
        )
    name = folder.resolve().parent.name if folder.name == "mav0" else folder.resolve().name
    images = [folder / "cam0" / "data" / file for file in names]
    return _associate(name, "euroc", images, times, stamps, poses, calibration.read_camera(camera_info or sensor))


def _extrinsics(sensor: Path) -> NDArray[np.float64]:
    values = calibration.read_yaml(sensor)
    try:
        return np.array(values["T_BS"]["data"], np.float64).reshape(4, 4)
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"file '{sensor}' has no 4x4 matrix T_BS") from None


def _tum(folder: Path, camera_info: str | Path | None) -> Sequence:
    times, names = pose_files.read_stamped_names(folder / "rgb.txt", None, 1)
    truth = folder / "groundtruth.txt"
    if not truth.is_file():
        raise ValueError(f"sequence '{folder}' has no ground truth '{truth}'")
    stamps, poses = pose_files.read_stamped_poses(truth, None, 1, scalar_first=False)
    images = [folder / file for file in names]
    if camera_info:
        camera = calibration.read_camera(camera_info)
    else:
        present = next((path for path in images if path.is_file()), None)
        if present is None:
            raise ValueError(f"none of the {len(images)} images in '{folder / 'rgb.txt'}' exists")
        camera = calibration.freiburg_camera(folder, _size(present))
    return _associate(folder.resolve().name, "tum", images, times, stamps, poses, camera)


def _kitti(folder: Path, image_folder: Path, index: int, camera_info: str | Path | None) -> Sequence:
    name = folder.resolve().name
    poses = _kitti_poses(folder)
    images = sorted(path for path in image_folder.iterdir() if path.suffix.lower() in SUFFIXES and path.stem.isdigit())
    if not images:
        raise ValueError(f"folder '{image_folder}' has no numbered image")
    own, centre = calibration.read_kitti(folder / "calib.txt", index, _size(images[0]))
    poses = poses.copy()
    poses[:, :3, 3] += poses[:, :3, :3] @ centre
    # The number of an image is the line of its pose.
    known = [path for path in images if int(path.stem) < len(poses)]
    chosen = [int(path.stem) for path in known]
    skipped = []
    if len(known) < len(images):
        skipped.append(f"{len(images) - len(known)} images have no line in the {len(poses)} poses")
    if len(known) < len(poses):
        skipped.append(f"{len(poses) - len(known)} of {len(poses)} poses have no image")
    times = _kitti_times(folder / "times.txt", len(poses))[chosen]
    camera = calibration.read_camera(camera_info) if camera_info else own
    return Sequence(name, "kitti", tuple(known), times, poses[chosen], camera, tuple(skipped))


def _kitti_poses(folder: Path) -> Poses:
    path = folder / "poses.txt"
    if not path.is_file():
        path = folder.resolve().parent.parent / "poses" / f"{folder.resolve().name}.txt"
    if not path.is_file():
        raise ValueError(f"sequence '{folder}' has no ground truth, neither '{folder / 'poses.txt'}' nor '{path}'")
    rows = pose_files.read_table(path, None, 12)
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3] = rows.reshape(-1, 3, 4)
    return poses


def _kitti_times(path: Path, count: int) -> NDArray[np.float64]:
    if not path.is_file():
        return np.arange(count) / KITTI_RATE
    times = pose_files.read_table(path, None, 1)[:, 0]
    if len(times) < count:
        raise ValueError(f"file '{path}' holds {len(times)} times and there are {count} poses")
    return times


def _size(path: Path) -> tuple[int, int]:
    height, width = read_grey(path).shape
    return height, width


def _associate(
    name: str, layout: str, images: list[Path], times: NDArray[np.float64], stamps: NDArray[np.float64], poses: Poses,
    camera: Camera,
) -> Sequence:  # fmt: skip
    """Keep the frames that have both an image and a pose."""
    there = np.array([path.is_file() for path in images], bool)
    near = pose_files.distance_to_nearest(times, stamps) <= MAX_TIME_DIFFERENCE
    skipped = []
    if not there.all():
        first = images[int(np.flatnonzero(~there)[0])].name
        skipped.append(f"{np.count_nonzero(~there)} of {len(images)} listed images do not exist, the first is {first}")
    if (there & ~near).any():
        skipped.append(
            f"{np.count_nonzero(there & ~near)} of {len(images)} images have no ground truth within "
            f"{MAX_TIME_DIFFERENCE:g} seconds"
        )
    keep = there & near
    chosen = tuple(path for path, kept in zip(images, keep, strict=True) if kept)
    return Sequence(
        name,
        layout,
        chosen,
        times[keep],
        pose_files.interpolate_poses(times[keep], stamps, poses),
        camera,
        tuple(skipped),
    )
