"""Calibrations: viewing rays that project back to their pixels."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from superpoint_ros.node import lenses
from superpoint_ros.node.camera import Camera, flat_cloud, is_rectified
from superpoint_ros.node.topics import TRANSPORTS, topic

# The left camera of EuRoC's rig, a tracking camera's fisheye lens and a depth camera's colour image.
EUROC = {"k": [458.654, 0, 367.215, 0, 457.296, 248.375, 0, 0, 1], "width": 752, "height": 480,
         "d": [-0.28340811, 0.07395907, 0.00019359, 1.76187114e-05], "distortion_model": "plumb_bob"}  # fmt: skip
FISHEYE = {"k": [286.0, 0, 424, 0, 287.0, 400, 0, 0, 1], "width": 848, "height": 800,
           "d": [-0.006, 0.04, -0.037, 0.006], "distortion_model": "equidistant"}  # fmt: skip
KINECT = {"k": [607.6, 0, 637.4, 0, 607.4, 366.4, 0, 0, 1], "width": 1280, "height": 720,
          "d": [0.46, -2.5, 8e-4, -2e-4, 1.5, 0.34, -2.3, 1.44], "distortion_model": "rational_polynomial"}  # fmt: skip
PINHOLE = {**EUROC, "d": []}
THIN_PRISM = {**KINECT, "d": [*KINECT["d"], 2e-3, -1e-3, 1e-3, 5e-4]}
TILTED = {**KINECT, "d": [*THIN_PRISM["d"], 0.03, -0.02]}
ACTION = {"k": [250.0, 0, 424, 0, 251.0, 400, 0, 0, 1], "width": 848, "height": 800,
          "d": [0.1, 0.01, 0, 0], "distortion_model": "fisheye"}  # fmt: skip
BARREL = {**EUROC, "d": [-0.35, 0.0, 0.0, 0.0]}
"""Its polynomial has its maximum at a radius of 0.976, in the image 298 pixels from the centre."""
MODELS = {
    "none": {**PINHOLE, "distortion_model": "none"},
    "plumb_bob of 4": EUROC,
    "plumb_bob of 5": {**EUROC, "d": [*EUROC["d"], 0.01]},
    "barrel": BARREL,
    "rational_polynomial": KINECT,
    "thin prism": THIN_PRISM,
    "tilted": TILTED,
    "equidistant": FISHEYE,
    "fisheye": ACTION,
}


def info(**fields):
    """Create a sensor_msgs/CameraInfo with read-only arrays, like views of received bytes."""
    roi = SimpleNamespace(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    message = SimpleNamespace(
        **{"binning_x": 0, "binning_y": 0, "roi": roi, "r": np.zeros(9), "p": np.zeros(12), **fields}
    )
    message.k, message.d = np.array(message.k, np.float64), np.array(message.d, np.float64)
    message.k.flags.writeable = message.d.flags.writeable = False
    return message


def project(rays, k, d, model):
    """Project rays to pixels with the textbook formulas of the models."""
    x, y = (rays[:, :2] / rays[:, 2:]).astype(np.float64).T
    r2 = x * x + y * y
    if model == "equidistant":
        r = np.sqrt(r2)
        theta = np.arctan(r)
        factor = theta * (1 + sum(c * theta ** (2 * i + 2) for i, c in enumerate(d))) / np.where(r > 0, r, 1)
        x, y = np.where(r > 0, x * factor, x), np.where(r > 0, y * factor, y)
    else:
        k1, k2, p1, p2, k3, k4, k5, k6 = [*d, *[0.0] * (8 - len(d))]
        radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        x, y = (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )
    return np.column_stack((k[0] * x + k[2], k[4] * y + k[5]))


def grid(width, height):
    return np.mgrid[0:width:24, 0:height:24].reshape(2, -1).T.astype(np.float32)


@pytest.mark.parametrize("lens", [PINHOLE, EUROC, KINECT, FISHEYE], ids=["pinhole", "euroc", "kinect", "fisheye"])
def test_rays_project_back_to_their_pixels_all_over_the_image(lens):
    camera = Camera.from_message(info(**lens))
    pixels = grid(lens["width"], lens["height"])
    if camera.fisheye:  # at 90 degrees or more there is no ray at unit depth
        pixels = pixels[np.linalg.norm(pixels - np.float32([424, 400]), axis=1) < 1.3 * 286]
    rays = camera.rays(pixels)
    assert rays.shape == (len(pixels), 3) and rays.dtype == np.float32 and (rays[:, 2] == 1).all()
    assert camera.image_size == (lens["height"], lens["width"])
    found = project(rays, lens["k"], lens["d"], lens["distortion_model"])
    np.testing.assert_allclose(found, pixels, atol=0.01)


@pytest.mark.parametrize("turn", [(0, 0, 0), (2, -3, 1.5)], ids=["R is identity", "R turns"])
@pytest.mark.parametrize("lens", MODELS.values(), ids=MODELS)
def test_rays_of_the_raw_and_of_the_rectified_image_are_those_of_the_scene(lens, turn):
    fisheye = lens["distortion_model"] in ("equidistant", "fisheye")
    edge = np.tan(np.radians(75 if fisheye else 43))
    x, y = np.meshgrid(np.linspace(-edge, edge, 41), np.linspace(-edge, edge, 41))
    if lens is BARREL:
        x, y = 0.65 * x, 0.65 * y
    true = np.column_stack((x.ravel(), y.ravel(), np.ones(x.size)))
    points = true * np.random.default_rng(0).uniform(0.5, 20, (x.size, 1))
    rotation = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    # The fourth column, a baseline, is the position of the camera and does not affect rays.
    projection = np.array([[400.0, 0, 300, -40], [0, 410, 200, 0], [0, 0, 1, 0]])
    message = info(**lens, r=rotation.reshape(-1), p=projection.reshape(-1))

    project = cv2.fisheye.projectPoints if fisheye else cv2.projectPoints
    none, k = np.zeros(3), message.k.reshape(3, 3).copy()
    raw = project(points.reshape(1, -1, 3), none, none, k, message.d.copy())[0].reshape(-1, 2)
    turned = points @ rotation.T
    rectified = cv2.projectPoints(turned, none, none, projection[:, :3].copy(), None)[0].reshape(-1, 2)

    of_raw = Camera.from_message(message).rays(raw.astype(np.float32))
    of_rectified = Camera.from_message(message, rectified=True).rays(rectified.astype(np.float32))
    np.testing.assert_allclose(of_raw, true, atol=1e-4)
    agreeing = of_raw @ rotation.T
    np.testing.assert_allclose(agreeing / agreeing[:, 2:], of_rectified, atol=1e-4)
    np.testing.assert_allclose(of_rectified, turned / turned[:, 2:], atol=1e-4)


def test_pixels_beyond_the_invertible_radius_have_no_ray_and_the_others_have_the_inner_one():
    camera = Camera.from_message(info(**BARREL))
    pixels = grid(752, 480)
    rays = camera.rays(pixels)
    distorted = (pixels - [367.215, 248.375]) / [458.654, 457.296]
    beyond = np.linalg.norm(distorted, axis=1) > 2 / 3 * (1 / (3 * 0.35)) ** 0.5
    assert 20 < beyond.sum() < len(pixels) / 2
    np.testing.assert_array_equal(np.isnan(rays), np.repeat(beyond[:, None], 3, axis=1))
    assert np.linalg.norm(rays[~beyond, :2], axis=1).max() < (1 / (3 * 0.35)) ** 0.5
    found = project(rays[~beyond], BARREL["k"], BARREL["d"], "plumb_bob")
    np.testing.assert_allclose(found, pixels[~beyond], atol=0.01)


def test_a_pixel_without_a_ray_costs_the_others_neither_time_nor_digits(monkeypatch):
    k, d = np.reshape(BARREL["k"], (3, 3)), np.array(BARREL["d"])
    pixels = grid(752, 480).astype(np.float64)
    pixels = pixels[np.linalg.norm(pixels - k[:2, 2], axis=1) < 250]
    counts, distort = [], lenses._Lens.distort

    def counted(lens, x, y):
        counts.append(len(x))
        return distort(lens, x, y)

    monkeypatch.setattr(lenses._Lens, "distort", counted)
    alone = lenses.undistort(pixels, k, d)
    spent = sum(counts)
    counts.clear()
    with_corner = lenses.undistort(np.vstack(([[0.0, 0.0]], pixels)), k, d)
    assert np.isnan(with_corner[0]).all() and np.isfinite(alone).all()
    np.testing.assert_array_equal(with_corner[1:], alone)
    assert sum(counts) == spent


def test_fisheye_pixels_at_90_degrees_or_more_have_no_ray():
    camera = Camera.from_message(info(**ACTION))
    angles = np.radians([0, 60, 80, 89, 90.5, 100, 140])
    radii = 250 * (angles + 0.1 * angles**3 + 0.01 * angles**5)
    rays = camera.rays(np.column_stack((424 + radii, np.full(7, 400))).astype(np.float32))
    np.testing.assert_allclose(rays[:3, 0], np.tan(angles[:3]), rtol=1e-5)
    assert rays[3, 0] == pytest.approx(np.tan(angles[3]), rel=1e-3)
    assert np.isnan(rays[4:]).all() and (rays[:4, 2] == 1).all()


def test_the_principal_point_is_on_the_optical_axis_x_is_right_and_y_is_down():
    camera = Camera.from_message(info(**PINHOLE))
    points = np.array([[367.215, 248.375], [500, 248.375], [367.215, 400]], np.float32)
    rays = camera.rays(points)
    np.testing.assert_allclose(rays[0], [0, 0, 1], atol=1e-6)
    assert rays[1, 0] > 0 and abs(rays[1, 1]) < 1e-6 and rays[2, 1] > 0


def test_a_calibration_in_a_received_buffer_is_not_modified():
    message = info(**EUROC)
    message.roi.x_offset, message.binning_x = 10, 2
    before = message.k.copy()
    Camera.from_message(message)
    np.testing.assert_array_equal(message.k, before)


def test_a_cropped_and_binned_image_has_the_rays_of_the_full_one():
    full, message = Camera.from_message(info(**PINHOLE)), info(**PINHOLE)
    message.roi = SimpleNamespace(x_offset=100, y_offset=60, width=400, height=300, do_rectify=False)
    message.binning_x = message.binning_y = 2
    part = Camera.from_message(message)
    assert part.image_size == (150, 200)
    pixels = np.array([[0, 0], [40, 75], [199, 149]], np.float32)
    np.testing.assert_allclose(part.rays(pixels), full.rays(pixels * 2 + np.float32([100, 60])), atol=1e-5)


@pytest.mark.parametrize("model", ["", "plumb_bob", "equidistant"])
def test_a_camera_without_distortion_is_a_pinhole_or_an_ideal_fisheye(model):
    for distortion in ([], [0.0] * 4):
        camera = Camera.from_message(info(**{**PINHOLE, "d": distortion, "distortion_model": model}))
        ray = camera.rays(np.array([[367.215 + 45.8654, 248.375]], np.float32))[0]
        assert ray[0] == pytest.approx(np.tan(0.1) if model == "equidistant" else 0.1, abs=1e-5)


def test_an_uncalibrated_camera_has_no_calibration():
    assert Camera.from_message(info(**{**EUROC, "k": [0.0] * 9})) is None


def test_an_unknown_distortion_model_is_rejected_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'kannala' is unknown, allowed is one of plumb_bob, .*equidistant"):
        Camera.from_message(info(**{**EUROC, "distortion_model": "kannala"}))


def test_no_keypoints_give_no_points():
    nothing = np.zeros((0, 2), np.float32)
    for lens in (EUROC, FISHEYE):
        assert Camera.from_message(info(**lens)).rays(nothing).shape == (0, 3)
    assert flat_cloud(nothing).shape == (0, 3)


def test_without_calibration_the_cloud_is_the_image_plane():
    points = flat_cloud(np.array([[3.5, 4.25]], np.float32))
    assert points.dtype == np.float32 and points.tolist() == [[3.5, 4.25, 0.0]]


def test_camera_info_of_rosbags_is_supported(typestore):
    types = typestore.types
    header = types["std_msgs/msg/Header"](stamp=types["builtin_interfaces/msg/Time"](sec=0, nanosec=0), frame_id="")
    roi = types["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    message = types["sensor_msgs/msg/CameraInfo"](
        header=header, height=480, width=752, distortion_model="plumb_bob", d=np.array(EUROC["d"]),
        k=np.array(EUROC["k"], np.float64), r=np.eye(3).reshape(-1), p=np.zeros(12), binning_x=0, binning_y=0, roi=roi,
    )  # fmt: skip
    data = bytes(typestore.serialize_cdr(message, "sensor_msgs/msg/CameraInfo"))
    camera = Camera.from_message(typestore.deserialize_cdr(data, "sensor_msgs/msg/CameraInfo"))
    expected = Camera.from_message(info(**EUROC))
    pixels = grid(752, 480)
    np.testing.assert_array_equal(camera.rays(pixels), expected.rays(pixels))


@pytest.mark.parametrize("transport", TRANSPORTS.values())
def test_a_rectified_image_is_known_by_its_name_whatever_its_transport(transport):
    suffix = topic(transport).name.removeprefix("image")
    for name, rectified in {"image_rect": True, "image_rect_color": True, "image_raw": False}.items():
        assert is_rectified("auto", f"/camera/{name}{suffix}") == rectified
    assert is_rectified("true", f"/camera/image_raw{suffix}")
    assert not is_rectified("false", f"/camera/image_rect{suffix}")
