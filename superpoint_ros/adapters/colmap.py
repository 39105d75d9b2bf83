"""Write features, matches and verified two-view geometries to a COLMAP database.

COLMAP puts the origin at the corner of the top-left pixel, so half a pixel is added to keypoints and principal points.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import Features, Matches
from superpoint_ros.io.files import atomic_write
from superpoint_ros.io.optional import load_optional

if TYPE_CHECKING:
    import pycolmap

_HALF = 0.5
_WITH_EXIF = {".jpg", ".jpeg", ".tif", ".tiff", ".webp"}
"""Suffixes of image files that have Exif; COLMAP decodes the whole image to read it."""
_SEED = 1
"""Of the verification's random samples, so that equal matches have equal geometries."""


def load() -> Any:
    """Import pycolmap.

    Raises:
        ModuleNotFoundError: if it is not installed.
    """
    return load_optional("pycolmap", "COLMAP databases", "colmap")


def known_camera(
    image_size: tuple[int, int], matrix: NDArray[np.float64], distortion: NDArray[np.float64], fisheye: bool
) -> pycolmap.Camera:
    """Create COLMAP's camera of a calibration: PINHOLE, OPENCV, FULL_OPENCV or OPENCV_FISHEYE.

    Args:
        image_size: (height, width) in pixels.
        matrix: (3, 3) camera matrix for the origin at the centre of the top-left pixel.
        distortion: OpenCV's coefficients.
        fisheye: whether the model is the equidistant one.

    Raises:
        ValueError: in one sentence, if COLMAP has no model with these coefficients.
    """
    k = np.zeros(max(8, len(distortion)))
    k[: len(distortion)] = distortion
    if np.any(k[8:]):
        raise ValueError("COLMAP has no camera model for thin prism and tilt coefficients, allowed are the first eight")
    if fisheye:
        model, numbers = "OPENCV_FISHEYE", k[:4]
    elif np.any(k[4:]):
        model, numbers = "FULL_OPENCV", k[:8]
    else:
        model, numbers = ("OPENCV", k[:4]) if np.any(k) else ("PINHOLE", k[:0])
    focal_lengths, centre = matrix.diagonal()[:2], matrix[:2, 2] + _HALF
    height, width = image_size
    camera = load().Camera(
        model=model, width=width, height=height, params=np.concatenate((focal_lengths, centre, numbers))
    )
    camera.has_prior_focal_length = True
    return camera


def guessed_camera(path: str | Path, image_size: tuple[int, int]) -> pycolmap.Camera:
    """Guess the camera of an image file as COLMAP does: SIMPLE_RADIAL, its focal length from Exif or 1.2 widths."""
    pycolmap = load()
    height, width = image_size
    camera = None
    if Path(path).suffix.lower() in _WITH_EXIF:
        with suppress(Exception):  # a format that OpenCV reads and COLMAP does not
            camera = pycolmap.infer_camera_from_image(path)
    if camera is None or (camera.height, camera.width) != image_size:
        camera = pycolmap.Camera.create_from_model_name(0, "SIMPLE_RADIAL", 1.2 * max(image_size), width, height)
    return camera


def write_database(
    path: str | Path,
    images: Iterable[tuple[str, Features, pycolmap.Camera]],
    pairs: Iterable[tuple[str, str, Matches]],
) -> None:
    """Write a COLMAP database atomically, with the two-view geometry of each pair as COLMAP itself verifies it.

    Descriptors are rows of float32 (4 D bytes), of an extractor that COLMAP does not know: its own matchers cannot use
    them.

    Args:
        images: name relative to the folder of images, features, and camera; images of the same object share it.
        pairs: names of both images, and their matches.

    Raises:
        ModuleNotFoundError: if pycolmap is not installed.
    """
    pycolmap = load()
    level, pycolmap.logging.minloglevel = pycolmap.logging.minloglevel, pycolmap.logging.Level.WARNING.value
    try:
        with atomic_write(path) as partial:
            _write(pycolmap, partial, images, pairs)
            # The write-ahead log of a database that was here before would be replayed into this one.
            for suffix in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.unlink(f"{path}{suffix}")
    finally:
        pycolmap.logging.minloglevel = level


def _write(pycolmap: Any, path: Path, images: Iterable[Any], pairs: Iterable[tuple[str, str, Matches]]) -> None:
    rigs: dict[int, tuple[Any, int, int]] = {}
    """The camera, its number and that of its rig, by identity; the first keeps the identity from being reused."""
    ids: dict[str, int] = {}
    database = pycolmap.Database.open(path)
    try:
        for name, features, camera in images:
            if id(camera) not in rigs:
                rigs[id(camera)] = camera, *_write_camera(pycolmap, database, camera)
            _, camera_id, rig_id = rigs[id(camera)]
            ids[name] = _write_image(pycolmap, database, name, camera_id, rig_id)
            _write_features(pycolmap, database, ids[name], features)
        matched = False
        for first, second, matches in pairs:
            database.write_matches(ids[first], ids[second], matches.indices.astype(np.uint32))
            matched = True
    finally:
        database.close()
    if matched:
        options = pycolmap.TwoViewGeometryOptions()
        options.ransac.random_seed = _SEED
        pycolmap.geometric_verification(path, two_view_geometry_options=options)


def _write_camera(pycolmap: Any, database: Any, camera: Any) -> tuple[int, int]:
    """Write a camera and its rig, of which it is the only sensor; return the numbers of both."""
    camera_id = database.write_camera(camera)
    rig = pycolmap.Rig()
    rig.add_ref_sensor(pycolmap.sensor_t(type=pycolmap.SensorType.CAMERA, id=camera_id))
    return camera_id, database.write_rig(rig)


def _write_image(pycolmap: Any, database: Any, name: str, camera_id: int, rig_id: int) -> int:
    """Write an image and its frame, of which it is the only one; return its number."""
    image = pycolmap.Image(name=name, camera_id=camera_id)
    image.image_id = database.write_image(image)
    frame = pycolmap.Frame()
    frame.rig_id = rig_id
    frame.add_data_id(image.data_id)
    database.write_frame(frame)
    return int(image.image_id)


def _write_features(pycolmap: Any, database: Any, image_id: int, features: Features) -> None:
    database.write_keypoints(image_id, features.keypoints + np.float32(_HALF))
    rows = np.ascontiguousarray(features.descriptors, np.float32).view(np.uint8)
    unknown = pycolmap.FeatureExtractorType.UNDEFINED
    database.write_descriptors(image_id, pycolmap.FeatureDescriptors(unknown, rows))
