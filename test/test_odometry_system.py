"""The whole odometry: its algorithm on simulated tracks, and its evaluation."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("gtsam", reason="gtsam, which the odometry needs, is not installed")
pytest.importorskip("evo", reason="evo, which measures trajectories, is not installed")

from superpoint_ros.features import Features, Scene, Status
from superpoint_ros.odometry.odometry import Odometry
from superpoint_ros.odometry.values import Frame, Observations, Settings, State

FOCAL, BASELINE, RATE = 480.0, 0.12, 10.0


def turn(yaw: float, pitch: float = 0.0) -> np.ndarray:
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    return np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]]) @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])


def pose(position=(0.0, 0.0, 0.0), yaw: float = 0.0, pitch: float = 0.0) -> np.ndarray:
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = turn(yaw, pitch), position
    return found


class World:
    """Points all around, seen by a camera with a noise in pixels; a track lives as long as its point is in view."""

    def __init__(self, points: np.ndarray, noise: float = 0.1, stereo: bool = False) -> None:
        self.points, self.noise, self.stereo = points, noise, stereo
        self.rng = np.random.default_rng(1)
        self.ids, self.next = np.full(len(points), -1), 0
        self.index = 0

    def frame(self, camera: np.ndarray, status: Status = Status.OK, scene: Scene = Scene.GENERAL) -> Frame:
        seen = (self.points - camera[:3, 3]) @ camera[:3, :3]
        depth = np.where(seen[:, 2] > 0.3, seen[:, 2], np.nan)
        rays = seen[:, :2] / depth[:, None]
        visible = (np.abs(rays) < [320 / FOCAL, 240 / FOCAL]).all(axis=1)
        new = visible & (self.ids < 0)
        self.ids[new] = self.next + np.arange(np.count_nonzero(new))
        self.next += np.count_nonzero(new)
        self.ids[~visible] = -1
        rays = rays[visible] + self.rng.normal(0, self.noise / FOCAL, (np.count_nonzero(visible), 2))
        right = np.full_like(rays, np.nan)
        if self.stereo:
            right = rays - np.column_stack((BASELINE / depth[visible], np.zeros(len(rays))))
            right += self.rng.normal(0, self.noise / FOCAL, right.shape)
        self.index += 1
        descriptors = np.random.default_rng(5).standard_normal((len(self.points), 64)).astype(np.float32)
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        pixels = (rays * FOCAL + [320, 240]).astype(np.float32)
        features = Features(pixels, np.ones(len(rays), np.float32), descriptors[visible], (480, 640))
        sigma = np.full(len(rays), self.noise / FOCAL)
        return Frame(
            round(self.index / RATE * 1e9),
            features,
            Observations(self.ids[visible].astype(np.int64), rays, right, sigma),
            Status.FIRST_FRAME if self.index == 1 else status,
            scene,
            FOCAL,
            "weights:0",
            np.array([BASELINE, 0.0, 0.0]) if self.stereo else None,
        )


def cloud(count: int = 1500) -> np.ndarray:
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((count, 3))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True) * rng.uniform(2, 8, (count, 1))


def forward(count: int, step: float = 0.05) -> list[np.ndarray]:
    return [pose((0.2 * np.sin(0.1 * i), 0, step * i), 0.02 * i) for i in range(count)]


def errors(estimates, poses, scale: float = 1.0) -> np.ndarray:
    true = np.array([np.linalg.inv(poses[0]) @ each for each in poses])
    return np.array(
        [np.linalg.norm(scale * one.pose[:3, 3] - two[:3, 3]) for one, two in zip(estimates, true, strict=True)]
    )


def test_a_stereo_camera_is_followed_in_metres_from_the_first_frame():
    world, odometry, poses = World(cloud(), stereo=True), Odometry(), forward(60)
    found = [odometry.register(world.frame(each)) for each in poses]
    assert all(each.state is State.TRACKING and each.metric for each in found)
    assert errors(found, poses).max() < 0.01 * 3.0


def test_a_single_camera_is_followed_up_to_its_scale():
    world, odometry, poses = World(cloud()), Odometry(), forward(60)
    found = [odometry.register(world.frame(each)) for each in poses]
    start = next(i for i, each in enumerate(found) if each.state is State.TRACKING)
    assert start < 15 and all(each.state is State.TRACKING and not each.metric for each in found[start:])
    true = np.array([np.linalg.inv(poses[0]) @ each for each in poses])[start:, :3, 3]
    ours = np.array([each.pose[:3, 3] for each in found])[start:]
    scale = (true * ours).sum() / (ours * ours).sum()
    assert np.linalg.norm(scale * ours - true, axis=1).max() < 0.01 * 3.0


def test_a_known_depth_gives_a_single_camera_metres():
    world, poses = World(cloud()), forward(40)
    depth = float(np.median(np.linalg.norm(cloud(), axis=1)))
    odometry = Odometry(Settings(start_depth=depth))
    last = [odometry.register(world.frame(each)) for each in poses][-1]
    true = np.linalg.norm((np.linalg.inv(poses[0]) @ poses[-1])[:3, 3])
    assert last.metric and np.linalg.norm(last.pose[:3, 3]) == pytest.approx(true, rel=0.25)


def test_the_covariance_covers_the_error_of_a_stereo_camera():
    squares = []
    for seed in range(6):
        world, odometry, poses = World(cloud(), stereo=True), Odometry(), forward(40)
        world.rng = np.random.default_rng(seed)
        last = [odometry.register(world.frame(each)) for each in poses][-1]
        error = last.pose[:3, 3] - (np.linalg.inv(poses[0]) @ poses[-1])[:3, 3]
        squares.append(error @ np.linalg.solve(last.covariance[:3, :3], error))
    assert 0.2 < np.mean(squares) < 15  # 3 if the covariance is exact


def test_a_standing_camera_does_not_move():
    world, odometry = World(cloud(), stereo=True), Odometry()
    found = [odometry.register(world.frame(np.eye(4))) for _ in range(30)]
    assert errors(found, [np.eye(4)] * 30).max() < 0.01
    assert sum(each.keyframe for each in found) <= 1


def test_a_standing_single_camera_waits_for_parallax():
    world, odometry = World(cloud()), Odometry()
    found = [odometry.register(world.frame(np.eye(4))) for _ in range(30)]
    assert {each.state for each in found} == {State.INITIALISING} and found[-1].reason
    moving = [odometry.register(world.frame(each)) for each in forward(40)]
    assert moving[-1].state is State.TRACKING


@pytest.mark.parametrize("stereo", [False, True])
def test_pure_rotation_is_followed(stereo):
    world, odometry = World(cloud(), stereo=stereo), Odometry()
    poses = forward(30)
    poses += [pose(poses[-1][:3, 3], 0.02 * 29 + 0.04 * i) for i in range(1, 50)]
    found = [odometry.register(world.frame(each)) for each in poses]
    assert all(each.state is State.TRACKING for each in found[20:])
    relative = np.linalg.inv(found[29].pose) @ found[-1].pose
    true = np.linalg.inv(poses[29]) @ poses[-1]
    angle = np.degrees(np.arccos(np.clip((np.trace(relative[:3, :3].T @ true[:3, :3]) - 1) / 2, -1, 1)))
    assert angle < 1.5
    assert np.linalg.norm(relative[:3, 3]) < 0.05 * np.linalg.norm(found[29].pose[:3, 3])


def test_a_plane_starts_a_single_camera_in_the_right_direction():
    rng = np.random.default_rng(2)
    plane = np.column_stack((rng.uniform(-6, 6, 3000), rng.uniform(-6, 6, 3000), np.full(3000, 4.0)))
    plane[:, 2] += 0.3 * plane[:, 0]
    world, odometry = World(plane), Odometry()
    poses = [pose((0.06 * i, 0.01 * i, 0.02 * i), -0.003 * i) for i in range(60)]
    found = [odometry.register(world.frame(each, scene=Scene.PLANAR)) for each in poses]
    start = next(i for i, each in enumerate(found) if each.state is State.TRACKING)
    true, ours = poses[-1][:3, 3], found[-1].pose[:3, 3]
    assert start < 30
    assert true @ ours / np.linalg.norm(true) / np.linalg.norm(ours) > 0.999


def test_a_covered_camera_is_lost_and_found_again_at_the_same_place():
    world, odometry, poses = World(cloud(), stereo=True), Odometry(), forward(30)
    found = [odometry.register(world.frame(each)) for each in poses]
    assert found[-1].state is State.TRACKING
    nowhere = pose((0, 0, 1000.0))
    covered = [odometry.register(world.frame(nowhere)) for _ in range(10)]
    assert {each.state for each in covered} == {State.LOST} and covered[0].reason
    assert all(np.array_equal(each.pose, found[-1].pose) for each in covered)
    again = odometry.register(world.frame(poses[-1]))  # all tracks are new, so descriptors have to tell
    assert again.state is State.TRACKING
    assert np.linalg.norm(again.pose[:3, 3] - found[-1].pose[:3, 3]) < 0.02


def test_another_map_starts_where_the_camera_was_lost_for_long():
    world, odometry, poses = World(cloud(), stereo=True), Odometry(Settings(lost_after=1.0)), forward(30)
    last = [odometry.register(world.frame(each)) for each in poses][-1]
    nowhere = pose((0, 0, 1000.0))
    states = [odometry.register(world.frame(nowhere)).state for _ in range(20)]
    assert State.LOST in states and states[-1] is State.INITIALISING
    elsewhere = [odometry.register(world.frame(each)) for each in forward(10)]
    assert elsewhere[0].state is State.TRACKING
    np.testing.assert_allclose(elsewhere[0].pose, last.pose)


def test_ids_of_a_restarted_detector_are_not_mistaken_for_the_former_ones():
    world, odometry, poses = World(cloud(), stereo=True), Odometry(), forward(30)
    last = [odometry.register(world.frame(each)) for each in poses][-1]
    other = World(np.roll(cloud(), 700, axis=0), stereo=True)  # the same points with other ids and descriptors
    other.index = world.index
    frame = other.frame(poses[-1], Status.FIRST_FRAME)
    assert set(frame.observations.ids.tolist()) & set(world.ids.tolist())
    found = odometry.register(frame)
    assert found.state is State.LOST or np.linalg.norm(found.pose[:3, 3] - last.pose[:3, 3]) < 0.02


def test_descriptors_of_other_weights_are_not_compared():

    world, odometry, poses = World(cloud(), stereo=True), Odometry(), forward(30)
    for each in poses:
        odometry.register(world.frame(each))
    world.ids[:] = -1
    found = odometry.register(replace(world.frame(poses[-1]), weights="others:1"))
    assert found.state is State.LOST


def test_outliers_do_not_move_the_pose():
    world, odometry, poses = World(cloud(), stereo=True), Odometry(), forward(60)
    rng, found = np.random.default_rng(3), []
    for each in poses:
        frame = world.frame(each)
        wrong = rng.random(len(frame.observations)) < 0.2
        frame.observations.rays[wrong] += rng.normal(0, 0.05, (np.count_nonzero(wrong), 2))
        found.append(odometry.register(frame))
    assert errors(found, poses).max() < 0.03 * 3.0


def test_reset_starts_at_the_origin():
    world, odometry = World(cloud(), stereo=True), Odometry()
    for each in forward(20):
        odometry.register(world.frame(each))
    odometry.reset()
    found = odometry.register(world.frame(forward(21)[-1]))
    np.testing.assert_array_equal(found.pose, np.eye(4))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mono", "stereo"])
def test_evaluate_measures_the_odometry_in_the_room(kind, command, tmp_path):
    words = ["evaluate", "odometry", "room", "--system", kind, "--frames", 40, "-m", "superpoint:light", "klt"]
    result = command(*words, "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "odometry.json").read_text(encoding="utf-8"))
    ours, klt = found["methods"]
    assert (ours["method"], klt["method"]) == ("superpoint:light", "klt")
    assert found["stereo"] is (kind == "stereo") and ours["tracked"] == 1.0
    assert ours["ate_percent"] < 1.0
    assert len(ours["positions"]) == 40 - ours["started"]
    assert (tmp_path / "trajectory.png").stat().st_size > 10_000
    assert "drift" in (tmp_path / "odometry.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", [(), ("--system",)])
def test_the_room_has_no_other_calibration(command, tmp_path, kind):
    result = command("evaluate", "odometry", "room", *kind, "--camera-info", tmp_path / "a.yaml")
    assert result.returncode == 1 and "--camera-info" in result.stderr


def test_a_minority_of_the_known_points_tells_no_pose():
    world, odometry, poses = World(cloud(), stereo=True), Odometry(), forward(30)
    last = [odometry.register(world.frame(each)) for each in poses][-1]
    frame = replace(world.frame(poses[-1]), weights="others:1")  # so that descriptors cannot help
    rng = np.random.default_rng(4)
    wrong = rng.random(len(frame.observations)) < 0.75
    frame.observations.rays[wrong] += rng.normal(0, 0.1, (np.count_nonzero(wrong), 2))
    found = odometry.register(frame)
    assert found.state is State.LOST
    np.testing.assert_array_equal(found.pose, last.pose)
