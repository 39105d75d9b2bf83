"""The room: images, depths and transferred points agree to a hundredth of a pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from superpoint_ros.simulation.room import Room, scene
from superpoint_ros.simulation.room.rendering import Atlas, Renderer

SIZE = (240, 320)
LEVEL = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], np.float64)  # a camera that looks along the world's x axis


@pytest.fixture(scope="module")
def room():
    pytest.importorskip("skimage", reason="scikit-image, which holds the room's photographs, is not installed")
    return Room(SIZE, noise=0.0, exposure=0.0)


def waves(places: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Evaluate a pattern of plane waves of several lengths and directions at (..., 2) positions on a board."""
    rng = np.random.default_rng(5)
    total = np.zeros(places.shape[:-1])
    for _ in range(12):
        angle, length = rng.uniform(0, np.pi), scale * rng.uniform(0.02, 0.08)
        phase = 2 * np.pi * (places @ [np.cos(angle), np.sin(angle)]) / length
        total += np.sin(phase + rng.uniform(0, 2 * np.pi))
    return 128 + 10 * total


def board_view(seed: int, distance: float) -> np.ndarray:
    """Create the pose of a camera that views a board in the plane x = 0 obliquely."""
    rng = np.random.default_rng(seed)
    pose = np.eye(4)
    pose[:3, :3] = LEVEL @ cv2.Rodrigues(rng.uniform(-0.3, 0.3, 3))[0]
    pose[:3, 3] = -distance * pose[:3, 2] + rng.uniform(-0.05, 0.05, 3)
    return pose


@pytest.mark.parametrize("distance", [0.35, 0.7, 1.3, 2.5])
def test_images_agree_with_the_projection_to_a_hundredth_of_a_pixel(distance):
    # A rendered 2 m board of 1024 texels, and its true image: the mean of many samples of the pattern per pixel.
    # Nearby, where a texel covers more than a pixel, the pattern is interpolated linearly between texels.
    magnified = distance < 0.5
    board = scene.surface((0, 1, 1), (0, -2, 0), (0, 0, -2), "board")
    centres = (np.stack(np.meshgrid(np.arange(1024), np.arange(1024)), axis=-1) + 0.5) / 1024
    texture = np.repeat(np.rint(waves(centres, distance)).astype(np.uint8)[..., None], 3, axis=2)
    intrinsics = np.array([[240.0, 0, 159.5], [0, 240.0, 119.5], [0, 0, 1]])
    renderer = Renderer([board], Atlas([texture]))
    shifts = []
    for seed in range(2):
        pose = board_view(seed, distance)
        drawn = renderer.image(intrinsics, pose, SIZE)[..., 0].astype(np.float64)
        (plane,) = scene.plane_maps([board], intrinsics, pose)
        fine = (np.arange(6) + 0.5) / 6 - 0.5
        x, y = np.meshgrid((np.arange(320)[:, None] + fine).ravel(), (np.arange(240)[:, None] + fine).ravel())
        a, b, d = np.moveaxis(np.stack((x, y, np.ones_like(x)), axis=-1) @ plane.T, -1, 0)
        places = np.stack((a / d, b / d), axis=-1)
        values = between_texels(texture[..., 0], places) if magnified else waves(places, distance)
        true = values.reshape(240, 6, 320, 6).mean(axis=(1, 3))
        inside = ((places > 0.02) & (places < 0.98)).all(axis=-1).reshape(240, 6, 320, 6).all(axis=(1, 3))
        shifts += patch_shifts(drawn, true, inside)
    shifts = np.array(shifts)
    assert len(shifts) > 20
    assert np.sqrt((shifts**2).mean(axis=0)).max() < 0.006
    assert np.abs(shifts.mean(axis=0)).max() < 0.001
    assert np.abs(shifts).max() < 0.02  # of patches with little texture in one direction


def between_texels(texture: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Sample a texture bilinearly at (..., 2) positions in units of its sides."""
    side = len(texture)
    places = np.clip(places * side - 0.5, 0, side - 1.001)
    x, y = np.moveaxis(places.astype(int), -1, 0)
    fx, fy = np.moveaxis(places % 1, -1, 0)
    texture = texture.astype(float)
    upper = (1 - fx) * texture[y, x] + fx * texture[y, x + 1]
    lower = (1 - fx) * texture[y + 1, x] + fx * texture[y + 1, x + 1]
    return (1 - fy) * upper + fy * lower


def patch_shifts(drawn: np.ndarray, true: np.ndarray, inside: np.ndarray, side: int = 24) -> list[np.ndarray]:
    """Estimate the shift of each patch between two images in pixels, by least squares with free contrast."""
    found = []
    down, across = np.gradient(true)
    for top in range(0, true.shape[0] - side, side):
        for left in range(0, true.shape[1] - side, side):
            patch = slice(top, top + side), slice(left, left + side)
            if inside[patch].all():
                columns = [across[patch], down[patch], true[patch], np.ones((side, side))]
                matrix = np.stack([column.ravel() for column in columns], axis=1)
                (dx, dy, gain, _), *_ = np.linalg.lstsq(matrix, drawn[patch].ravel(), rcond=None)
                found.append(-np.array([dx, dy]) / gain)
    return found


def test_an_image_that_is_a_twentieth_of_a_pixel_off_is_detected():
    true = waves(np.stack(np.meshgrid(np.arange(96), np.arange(96)), axis=-1) / 200)
    moved = waves(np.stack(np.meshgrid(np.arange(96) - 0.05, np.arange(96)), axis=-1) / 200)
    shifts = patch_shifts(moved, true, np.ones(true.shape, bool))
    assert np.mean(shifts, axis=0) == pytest.approx([0.05, 0], abs=0.005)


@pytest.mark.parametrize(("first", "second"), [(0.0, 0.1), (7.0, 7.5), (21.0, 20.0), (40.0, 40.3)])
def test_transferred_pixels_look_the_same_in_both_frames(room, first, second):
    here, there = room.frame(first).astype(np.float32), room.frame(second).astype(np.float32)
    rows, columns = np.mgrid[8:232:4, 8:312:4]
    points = np.column_stack((columns.ravel(), rows.ravel()))
    places, visible = room.transfer(points, first, second, margin=3)
    assert visible.mean() > 0.4
    x, y = places[visible].T.astype(np.float32)
    smooth_here, smooth_there = cv2.GaussianBlur(here, (0, 0), 1.5), cv2.GaussianBlur(there, (0, 0), 1.5)
    seen = smooth_here[points[visible, 1], points[visible, 0]]
    right = np.abs(cv2.remap(smooth_there, x[None], y[None], cv2.INTER_CUBIC)[0] - seen).mean()
    off = np.abs(cv2.remap(smooth_there, x[None] + 2, y[None], cv2.INTER_CUBIC)[0] - seen).mean()
    assert right < off / 2.5


def test_a_transferred_point_comes_back(room):
    points = np.random.default_rng(0).uniform(0, 239, (500, 2))
    places, visible = room.transfer(points, 3.0, 3.4)
    back, seen = room.transfer(places[visible], 3.4, 3.0)
    assert seen.all()
    assert np.abs(back - points[visible]).max() < 1e-6


def test_depths_are_those_of_the_transferred_points(room):
    depth, pose = room.depth(5.0), room.pose(5.0)
    assert np.isfinite(depth).all()
    rows, columns = np.mgrid[0:240:7, 0:320:7]
    pixels = np.column_stack((columns.ravel(), rows.ravel()))
    rays = np.column_stack((pixels, np.ones(len(pixels)))) @ np.linalg.inv(room.intrinsics).T
    world = (rays * depth[rows, columns].reshape(-1, 1)) @ pose[:3, :3].T + pose[:3, 3]
    other = room.pose(5.3)
    seen = (world - other[:3, 3]) @ other[:3, :3] @ room.intrinsics.T
    places, visible = room.transfer(pixels, 5.0, 5.3, margin=1)
    assert visible.mean() > 0.7
    assert np.abs(seen[:, :2] / seen[:, 2:] - places)[visible].max() < 1e-3


def test_the_walls_are_at_their_documented_positions(room):
    # The lowest corner of the room in the north-east, from two frames that see it.
    corner = np.array([8.0, 6.0, 0.0])
    for time in np.arange(0, 60, 0.5):
        pose = room.pose(time)
        seen = (corner - pose[:3, 3]) @ pose[:3, :3]
        pixel = seen @ room.intrinsics.T / seen[2]
        if seen[2] > 0 and 0 < pixel[0] < 319 and 0 < pixel[1] < 239:
            assert room.depth(time)[round(pixel[1]), round(pixel[0])] == pytest.approx(seen[2], rel=0.02)
            return
    pytest.fail("no frame shows the corner")


def test_points_behind_the_pillar_are_not_visible(room):
    # A pixel next to the pillar in one view, behind it in another.
    pillar = [i for i, surface in enumerate(room.surfaces) if surface.texture == "pillar"]
    hidden = 0
    for time in np.arange(0, 60, 1.0):
        rows, columns = np.mgrid[4:240:8, 4:320:8]
        points = np.column_stack((columns.ravel(), rows.ravel())).astype(float)
        maps = scene.plane_maps(room.surfaces, room.intrinsics, room.pose(time))
        there = scene.plane_maps(room.surfaces, room.intrinsics, room.pose(time + 1.0))
        places, visible = room.transfer(points, time, time + 1.0)
        inside = ((places > 0) & (places < [319, 239])).all(axis=1)
        before, after = scene.cast(maps, points)[1], scene.cast(there, np.nan_to_num(places))[1]
        covered = inside & ~np.isin(before, pillar) & np.isin(after, pillar)
        assert not visible[covered].any()
        hidden += np.count_nonzero(covered)
        same = inside & (before == after)
        assert visible[same].all()
    assert hidden > 50


def test_a_margin_excludes_points_near_depth_edges(room):
    rows, columns = np.mgrid[0:240:2, 0:320:2]
    points = np.column_stack((columns.ravel(), rows.ravel()))
    depth = room.depth(30.0)
    steps = np.abs(np.diff(depth, axis=1)) > 0.2
    beside = steps[np.minimum(points[:, 1], 239), np.minimum(points[:, 0], 318)]
    _, all_visible = room.transfer(points, 30.0, 30.0)
    _, visible = room.transfer(points, 30.0, 30.0, margin=2)
    assert all_visible.all()
    assert beside.sum() > 20
    assert not visible[beside].any()
    assert visible.mean() > 0.8


def test_the_right_camera_is_shifted_by_the_disparity():
    room = Room(SIZE, baseline=0.2)
    rows, columns = np.mgrid[0:240:9, 0:320:9]
    points = np.column_stack((columns.ravel(), rows.ravel()))
    places, visible = room.transfer(points, 2.0, 2.0, cameras=(0, 1))
    disparity = room.intrinsics[0, 0] * 0.2 / room.depth(2.0)[rows, columns].ravel()
    assert visible.mean() > 0.6
    assert np.abs(points[:, 0] - places[:, 0] - disparity)[visible].max() < 0.01
    assert np.abs(points[:, 1] - places[:, 1])[visible].max() < 1e-9


def test_frames_depend_on_their_time_and_the_seed_alone(room):
    first, second = Room((60, 80), seed=3), Room((60, 80), seed=3)
    first.frame(4.0)
    assert np.array_equal(first.frame(2.5), second.frame(2.5))
    assert not np.array_equal(Room((60, 80), seed=4).frame(2.5), second.frame(2.5))
    assert not np.array_equal(first.frame(2.5, camera=1), second.frame(2.5))


def test_noise_blur_shutter_and_exposure_have_their_documented_effects():
    def frame(**options):
        return Room((120, 160), **{"noise": 0.0, "exposure": 0.0, **options}).frame(3.0).astype(float)

    def sharpness(image):
        return np.abs(np.diff(image, axis=1)).mean()

    plain = frame()
    middle = (plain > 40) & (plain < 215)
    assert (frame(noise=4.0) - plain)[middle].std() == pytest.approx(4.0, rel=0.05)
    assert sharpness(frame(blur=1.5)) < 0.7 * sharpness(plain)
    assert sharpness(frame(shutter=0.3)) < 0.9 * sharpness(plain)
    assert abs(frame(exposure=0.4)[middle].mean() - plain[middle].mean()) > 5


def test_the_camera_never_enters_the_furniture(room):
    for time in np.arange(0, 60, 0.25):
        assert room.depth(time).min() > 0.3
