"""Read camera calibrations in the file formats of data sets and of ROS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.node.camera import Camera, check_focal_lengths, parse_distortion

Size = tuple[int, int]

_FREIBURG = {
    "freiburg1": (517.3, 516.5, 318.6, 255.3, 0.2624, -0.9531, -0.0054, 0.0026, 1.1633),
    "freiburg2": (520.9, 521.0, 325.1, 249.7, 0.2312, -0.7849, -0.0033, -0.0001, 0.9172),
    "freiburg3": (535.4, 539.2, 320.1, 247.6, 0.0, 0.0, 0.0, 0.0, 0.0),
}
"""fx fy cx cy k1 k2 p1 p2 k3 of the TUM RGB-D benchmark's colour cameras, from its calibration page."""


def pinhole(
    size: Size, fx: float, fy: float, cx: float, cy: float, distortion: Any = (), model: str = "plumb_bob"
) -> Camera:
    """Build a camera from its intrinsics; `size` is (height, width).

    Raises:
        ValueError: in one sentence, if the intrinsics are invalid.
    """
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    check_focal_lengths(matrix, "the camera matrix")
    coefficients, fisheye = parse_distortion(model, distortion)
    return Camera(size, matrix, coefficients, fisheye, model, np.eye(3), matrix)


def freiburg_camera(folder: Path, size: Size) -> Camera:
    """Return the camera of a TUM RGB-D sequence, determined by the folder's name.

    Raises:
        ValueError: if the name contains none of the known cameras.
    """
    for name, values in _FREIBURG.items():
        if name in folder.resolve().name:
            return pinhole(size, *values[:4], values[4:])
    raise ValueError(
        f"sequence '{folder}' has no calibration and its name contains none of {', '.join(_FREIBURG)}, "
        f"pass one with --camera-info"
    )


def read_kitti(path: Path, index: int, size: Size) -> tuple[Camera, NDArray[np.float64]]:
    """Read rectified camera `index` from a KITTI calib.txt, and its centre (3,) in camera 0's frame, in metres.

    Raises:
        ValueError: if the file has no projection matrix for it.
    """
    rows: list[list[str]] = []
    for line in read_text(path).splitlines():
        label, colon, numbers = line.partition(":")
        words = (numbers if colon else line).split()
        if len(words) == 12 and (not colon or label.strip() in (f"P{len(rows)}", f"P_rect_0{len(rows)}")):
            rows.append(words)
    try:
        projection = np.array(rows[index], np.float64).reshape(3, 4)
        centre = np.asarray(-np.linalg.solve(projection[:, :3], projection[:, 3]), np.float64)
    except (IndexError, ValueError, np.linalg.LinAlgError):
        raise ValueError(f"file '{path}' has no 3x4 projection matrix of camera {index}") from None
    matrix = projection[:, :3]
    return pinhole(size, matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]), centre


def read_camera(path: str | Path) -> Camera:
    """Read a camera from a YAML file in ROS's camera_info format or EuRoC's sensor.yaml format.

    Raises:
        ValueError: if the file is missing or has no usable calibration.
    """
    values = read_yaml(path)
    try:
        if "camera_matrix" in values:
            size = int(values["image_height"]), int(values["image_width"])
            matrix = np.array(values["camera_matrix"]["data"], np.float64).reshape(3, 3)
            numbers = [matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]]
            model = values.get("distortion_model", "plumb_bob")
            distortion = np.array(values.get("distortion_coefficients", {}).get("data", []), np.float64)
        else:
            size = int(values["resolution"][1]), int(values["resolution"][0])
            numbers = [float(value) for value in values["intrinsics"]]
            model = values["distortion_model"]
            distortion = np.array(values["distortion_coefficients"], np.float64)
        fx, fy, cx, cy = numbers
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise ValueError(
            f"file '{path}' has no calibration: needed are image_width, image_height and camera_matrix (ROS), or "
            f"resolution, intrinsics, distortion_model and distortion_coefficients (EuRoC)"
        ) from None
    try:
        return pinhole(size, fx, fy, cx, cy, distortion, str(model))
    except ValueError as error:
        raise ValueError(f"file '{path}' states a camera that cannot be used: {error}") from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping; OpenCV's %YAML:1.0 directive, which YAML parsers reject, is skipped.

    Raises:
        ValueError: if the file is missing or not a YAML mapping.
    """
    import yaml

    text = "\n".join(line for line in read_text(Path(path)).splitlines() if not line.startswith("%"))
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError:
        values = None
    if not isinstance(values, dict):
        raise ValueError(f"file '{path}' cannot be read as YAML")
    return values


def read_text(path: Path) -> str:
    """Read a UTF-8 text file.

    Raises:
        ValueError: if the file is missing or not text.
    """
    if not path.is_file():
        raise ValueError(f"file '{path}' does not exist")
    try:
        return path.read_text(encoding="utf-8-sig")  # editors of Windows put a byte order mark first
    except UnicodeDecodeError:
        raise ValueError(f"file '{path}' is not a text file") from None
