"""Tracks as VINS reads them: the messages are indexed as the estimators index them."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from node_run import Host

from superpoint_ros import Status
from superpoint_ros.hosts.wire.messages import create_message, header_message
from superpoint_ros.hosts.wire.typesystem import deserialize, serialize
from superpoint_ros.node import camera, interface, lenses
from superpoint_ros.node.detector import Detector
from superpoint_ros.simulation.flight import Flight

SIZE, RATE = (240, 320), 10
K = np.array([[220.0, 0, 160], [0, 221, 119], [0, 0, 1]])
D = np.array([-0.2, 0.05, 1e-3, -5e-4, 0.0])
CAMERAS = 1  # NUM_OF_CAM of VINS-Mono
ADAPTED = ("vins_restart", "vins_features", "vins_mono_features")


class Subscriber(Host):
    """Subscribes to what the adapters publish, and keeps every message as it arrives."""

    def __init__(self):
        super().__init__()
        self.received, self.results = [], []

    def subscriber_count(self, key, camera):
        return int(key in ADAPTED)

    def publish(self, key, camera, header, fields):
        if key in ADAPTED:
            type_name = interface.topic(key).type
            message = deserialize(serialize(create_message(type_name, header, fields), type_name), type_name)
            self.received.append((key, message))
        elif key == "features":
            self.results.append(fields)

    def of(self, key):
        return [message for name, message in self.received if name == key]


def camera_info():
    roi = SimpleNamespace(x_offset=0, y_offset=0, height=0, width=0)
    return SimpleNamespace(height=SIZE[0], width=SIZE[1], k=K.ravel(), d=D, r=np.eye(3).ravel(), p=np.zeros(12),
                           distortion_model="plumb_bob", binning_x=0, binning_y=0, roi=roi)  # fmt: skip


@pytest.fixture(scope="module")
def flight(photograph):
    flight = Flight(photograph, SIZE)
    return [cv2.cvtColor(flight.frame(number / RATE), cv2.COLOR_BGR2GRAY) for number in range(5)]


@pytest.fixture(scope="module")
def run(flight):
    """Process frames at 10 Hz, the last one later by `gap` seconds; return the host."""
    pytest.importorskip("rosbags", reason="rosbags, which serialises messages without ROS, is not installed")

    def run(gap=0, calibrated=True, host=None, **values):
        host = host or Subscriber()
        values = {"weights": "light", "device": "cpu", "max_keypoints": 300, "adapters": ["vins"], **values}
        detector = Detector(values, host, live=False)
        if calibrated:
            detector.set_camera_info(camera_info())
        for number, image in enumerate(flight):
            stamp = 10**9 + number * 10**8 + (round(gap * 1e9) if number == 4 else 0)
            layout = {"height": SIZE[0], "width": SIZE[1], "encoding": "mono8", "is_bigendian": 0, "step": SIZE[1]}
            detector.submit_image(SimpleNamespace(header=header_message(stamp, "camera"), **layout, data=image.ravel()))
        assert detector.front_end.counters.processed == 5
        return host

    return run


@pytest.fixture(scope="module")
def host(run):
    return run()


def as_fusion_reads(message):
    """Return id, camera, x, y, u, v, vx, vy of each point, and check what VINS-Fusion asserts."""
    found = {}
    for i, point in enumerate(message.points):
        values = [channel.values[i] for channel in message.channels]
        number, camera, u, v, vx, vy = values[:6]
        if len(message.channels) > 5:
            assert values[6:9] == [0, 0, 0]  # it reads these as the point's true position
        assert point.z == 1
        found[int(number)] = (int(camera), point.x, point.y, u, v, vx, vy)
    return found


def as_mono_reads(message):
    """Return the same as VINS-Mono sees it, with one camera."""
    found = {}
    for i, point in enumerate(message.points):
        number = int(message.channels[0].values[i] + 0.5)
        u, v, vx, vy = (message.channels[index].values[i] for index in (1, 2, 3, 4))
        assert point.z == 1
        found[number // CAMERAS] = (number % CAMERAS, point.x, point.y, u, v, vx, vy)
    return found


def test_every_frame_has_a_message_of_the_tracks_that_are_older_than_it(host):
    clouds = host.of("vins_features")
    assert len(clouds) == 5 and not clouds[0].points and not host.warnings
    for fields, cloud in zip(host.results[1:], clouds[1:], strict=True):
        tracked = fields["track_ids"][fields["track_ages"] > 0].tolist()
        read = set(as_fusion_reads(cloud))  # without outliers
        assert read <= set(tracked) and len(read) > 0.9 * len(tracked) > 40


def test_points_are_undistorted_and_normalised_and_u_v_are_pixels(host):
    found = np.array([values[1:5] for values in as_fusion_reads(host.of("vins_features")[2]).values()])
    points, pixels = found[:, :2], found[:, 2:]
    seen, _ = cv2.projectPoints(np.column_stack((points, np.ones(len(points)))), np.zeros(3), np.zeros(3), K, D)
    np.testing.assert_allclose(seen[:, 0], pixels, atol=5e-3)
    assert np.abs(points @ K[:2, :2] + K[:2, 2] - pixels).max() > 2  # the lens does distort


def test_velocities_lead_from_the_frame_before(host):
    before, now = map(as_fusion_reads, host.of("vins_features")[2:4])
    shared = sorted(before.keys() & now.keys())
    assert len(shared) > 50
    first, second = (np.array([each[number][1:3] for number in shared]) for each in (before, now))
    velocity = np.array([now[number][5:7] for number in shared])
    np.testing.assert_allclose(first + velocity / RATE, second, atol=1e-5)
    assert np.median(np.linalg.norm(velocity, axis=1)) > 0.01


def test_vins_mono_reads_the_same_from_its_own_channels(host):
    for fusion, mono in zip(host.of("vins_features"), host.of("vins_mono_features"), strict=True):
        assert len(mono.channels) == 5 and len(fusion.channels) == 9
        assert as_mono_reads(mono) == as_fusion_reads(fusion)


def test_messages_have_the_stamp_of_their_image(host):
    stamps = [message.header.stamp.sec * 10**9 + message.header.stamp.nanosec for message in host.of("vins_features")]
    assert stamps == [10**9 + number * 10**8 for number in range(5)]


def test_viewing_rays_are_computed_once_a_frame_for_all_topics(run, monkeypatch):
    class WithCloud(Subscriber):
        clouds = 0

        def subscriber_count(self, key, camera):
            return int(key in (*ADAPTED, "keypoints_cloud"))

        def publish(self, key, camera, header, fields):
            super().publish(key, camera, header, fields)
            self.clouds += key == "keypoints_cloud"

    def counted(pixels, matrix, distortion):
        counts.append(len(pixels))
        return lenses.undistort(pixels, matrix, distortion)

    counts = []
    monkeypatch.setattr(camera, "undistort", counted)
    host = run(host=WithCloud())
    assert host.clouds == len(host.of("vins_features")) == len(host.of("vins_mono_features")) == 5
    # Those of its keypoints and, from the second frame on, of earlier ones for the velocities.
    assert len(counts) == 5 + 4
    assert [counts[0], *counts[1::2]] == [len(fields["scores"]) for fields in host.results]


def test_a_gap_restarts_the_estimator_and_nothing_else_does(run, host):
    assert not host.of("vins_restart")
    late = run(gap=2.0)
    assert [message.data for message in late.of("vins_restart")] == [True]
    assert not late.of("vins_features")[4].points and not late.warnings
    order = [key for key, _ in late.received]
    assert order.index("vins_restart") < len(order) - order[::-1].index("vins_features")


def test_ids_stay_exact_in_float32(make_features):
    from superpoint_ros import Frame, FrameResult, Homography, Matches
    from superpoint_ros.adapters.vins import fusion_cloud

    features = make_features([[10, 20], [30, 40]])
    result = FrameResult(
        Frame(0, lambda: None), np.zeros((480, 640), np.uint8), features, np.array([2**24 + 5, 2**24 - 1]), None, 0,
        Matches.empty(), Homography.failed(Status.OK), np.array([1, 1]), np.zeros(2, bool)
    )  # fmt: skip
    rays = np.zeros((2, 2), np.float32)
    assert fusion_cloud(result, rays, rays)["channels"][0]["values"].tolist() == [5, 2**24 - 1]


def test_a_track_off_its_epipolar_line_is_rejected_for_good(make_features):
    from superpoint_ros import Frame, FrameResult, Homography, Matches
    from superpoint_ros.adapters.vins import OutlierFilter, fusion_cloud

    rng = np.random.default_rng(0)
    points = np.column_stack((rng.uniform(-2, 2, (80, 2)), rng.uniform(3, 8, 80)))
    filter_, kept = OutlierFilter(), []
    for step in range(4):
        seen = points - [0.1 * step, 0.02 * step, 0.05 * step]
        rays = (seen[:, :2] / seen[:, 2:]).astype(np.float32)
        if step == 2:
            rays[5:8, 1] += 8 / 460  # for one frame
        features = make_features(np.abs(rays) * 100)
        result = FrameResult(
            Frame(step, lambda: None), np.zeros((480, 640), np.uint8), features, np.arange(80), None, 0,
            Matches.empty(), Homography.failed(Status.OK), np.full(80, step), np.zeros(80, bool)
        )  # fmt: skip
        kept.append(filter_.kept(result, rays))
        assert filter_.kept(result, rays) is kept[-1]  # once per frame, for all topics
    assert kept[0].all() and kept[1].all()
    assert not kept[2][5:8].any() and not kept[3][5:8].any()
    assert np.delete(kept[3], [5, 6, 7]).mean() > 0.95
    sent = fusion_cloud(result, rays, np.zeros_like(rays), kept[3])["channels"][0]["values"]
    assert not {5, 6, 7} & set(sent.tolist()) and len(sent) == np.count_nonzero(kept[3])


def test_a_point_without_a_ray_is_left_out(make_features):
    from superpoint_ros import Frame, FrameResult, Homography, Matches
    from superpoint_ros.adapters.vins import mono_cloud

    features = make_features([[10, 20], [30, 40], [50, 60]])
    result = FrameResult(
        Frame(0, lambda: None), np.zeros((480, 640), np.uint8), features, np.array([7, 8, 9]), None, 0,
        Matches.empty(), Homography.failed(Status.OK), np.array([1, 0, 4]), np.zeros(3, bool)
    )  # fmt: skip
    rays = np.array([[np.nan, np.nan], [0, 0], [0.1, 0.2]], np.float32)
    fields = mono_cloud(result, rays, np.zeros((3, 2), np.float32))
    assert fields["channels"][0]["values"].tolist() == [9]
    np.testing.assert_allclose(fields["points"], [[0.1, 0.2, 1]], atol=1e-7)


@pytest.mark.parametrize(
    ("values", "expected"),
    [({"calibrated": False}, "there is no camera_info"), ({"tracking": False}, "parameter 'tracking' is false")],
)
def test_what_is_missing_is_warned_about_and_costs_no_frame(run, values, expected):
    host = run(**values)
    assert len(host.results) == 5 and not host.of("vins_features")
    assert any(expected in text for text in host.warnings)
