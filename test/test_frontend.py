"""The front end on single frames: results, and state between frames."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from superpoint_ros import Frame, FrontEnd, FrontEndSettings, Status, SuperPoint, settings_from_parameters
from superpoint_ros.extraction import weights
from superpoint_ros.extraction.network import SuperPointNet
from superpoint_ros.frontend.frames import Counters
from superpoint_ros.frontend.timing import STAGES

MS = 1_000_000
SETTINGS = settings_from_parameters({"max_keypoints": 300})


@pytest.fixture
def problems():
    return []


@pytest.fixture
def front_end(superpoint, problems):
    """A front end on the small network that records the problems of skipped frames."""
    return FrontEnd(superpoint, SETTINGS, on_problem=lambda camera, reason: problems.append((camera, reason)))


@pytest.fixture
def view(grey):
    """Crop the photograph at multiples of a network cell, so that any weights detect the same points."""

    def cut(step=0, size=(160, 208)):
        y, x = 100 + 8 * step, 120 + 16 * step
        return np.ascontiguousarray(grey[y : y + size[0], x : x + size[1]])

    return cut


@pytest.fixture
def frame(view):
    def make(stamp, step=0, camera="image", size=(160, 208), context=None):
        return Frame(stamp * MS, lambda: view(step, size), camera, context)

    return make


def broken(message="the image is damaged"):
    def decode():
        raise ValueError(message)

    return decode


def test_the_first_frame_has_features_but_no_matches(front_end, frame, view):
    result = front_end.process(frame(40, context="header"))
    assert result.homography.status == Status.FIRST_FRAME
    assert result.reference is None and result.reference_stamp == 0 and len(result.matches) == 0
    assert len(result.features) > 50 and len(result.track_ids) == len(result.features)
    assert result.frame.context == "header" and result.frame.stamp == 40 * MS
    np.testing.assert_array_equal(result.image, view())


def test_the_second_frame_has_the_homography_from_the_first(front_end, frame):
    first = front_end.process(frame(40, 0))
    second = front_end.process(frame(80, 1))
    assert second.homography.status == Status.OK
    assert second.reference is first.features and second.reference_stamp == 40 * MS
    expected = np.array([[1, 0, -16], [0, 1, -8], [0, 0, 1]])
    corners = np.array([[0, 0, 1], [207, 0, 1], [0, 159, 1], [207, 159, 1]]).T
    moved = second.homography.matrix @ corners
    np.testing.assert_allclose((moved / moved[2])[:2], (expected @ corners)[:2], atol=0.3)
    assert second.homography.inliers.shape == (len(second.matches),)


def test_a_track_id_follows_its_keypoint_through_matches(front_end, frame):
    first, second, third = (front_end.process(frame(40 * step, step)) for step in (1, 2, 3))
    for before, after in ((first, second), (second, third)):
        i, j = after.matches.indices.T
        assert len(i) > 20
        same = after.track_ids[j] == before.track_ids[i]
        assert same[after.matches.refined].all() and same.mean() > 0.5  # the network is not trained
        fresh = np.delete(after.track_ids, j[same])
        assert not np.isin(fresh, before.track_ids).any()
    assert len(set(first.track_ids) & set(second.track_ids) & set(third.track_ids)) > 10


def test_track_ids_are_never_reused_whatever_interrupts_the_sequence(front_end, frame):
    seen = set(front_end.process(frame(1000)).track_ids.tolist())
    assert seen
    for breaks in (
        lambda: front_end.process(frame(500)),  # time goes back
        lambda: front_end.process(frame(9000)),  # a gap
        lambda: front_end.process(frame(9040, size=(128, 128))),  # another size
        lambda: (front_end.reset(), front_end.process(frame(9080, size=(128, 128))))[1],
    ):
        result = breaks()
        ids = set(result.track_ids.tolist())
        assert len(ids) == len(result.features) > 0 and not ids & seen
        seen |= ids


def test_tracking_can_be_turned_off(superpoint, frame):
    front_end = FrontEnd(superpoint, replace(SETTINGS, tracking=False))
    assert [front_end.process(frame(40 * step, step)).track_ids.shape for step in (1, 2)] == [(0,), (0,)]


@pytest.mark.parametrize(
    ("stamp", "status"),
    [(960, Status.TIME_JUMP), (2001, Status.TIME_JUMP), (2000, Status.OK), (1001, Status.OK), (1, Status.TIME_JUMP)],
)
def test_a_decreasing_stamp_or_a_gap_is_a_time_jump(front_end, frame, stamp, status):
    front_end.process(frame(1000))
    result = front_end.process(frame(stamp, 1))
    assert result.homography.status == status
    assert (result.reference is None) == (status == Status.TIME_JUMP)
    # From there the sequence continues.
    assert front_end.process(frame(stamp + 40, 2)).homography.status == Status.OK


def test_the_maximum_gap_is_max_gap(superpoint, frame):
    front_end = FrontEnd(superpoint, replace(SETTINGS, max_gap=0.1))
    front_end.process(frame(0))
    assert front_end.process(frame(100, 1)).homography.status == Status.OK
    assert front_end.process(frame(201, 2)).homography.status == Status.TIME_JUMP


def test_another_image_size_is_image_changed_once(front_end, frame):
    front_end.process(frame(0))
    changed = front_end.process(frame(40, size=(128, 192)))
    assert changed.homography.status == Status.IMAGE_CHANGED and changed.reference is None
    assert front_end.process(frame(80, 1, size=(128, 192))).homography.status == Status.OK


def test_a_repeated_stamp_is_dropped_undecoded_with_a_reason(front_end, frame, problems):
    front_end.process(frame(40))
    assert front_end.process(Frame(40 * MS, broken("decoded in vain"))) is None
    assert [camera for camera, _ in problems] == ["image"] and "stamp repeats" in problems[0][1]
    assert front_end.counters == Counters(received=2, processed=1, dropped=1, failed=0)
    assert front_end.process(frame(80, 1)).homography.status == Status.OK


def test_a_frame_that_cannot_be_decoded_fails_and_the_next_is_matched_with_the_previous_one(front_end, frame, problems):
    first = front_end.process(frame(40))
    assert front_end.process(Frame(80 * MS, broken())) is None
    assert problems == [("image", "the image is damaged")]
    result = front_end.process(frame(120, 1))
    assert result.homography.status == Status.OK and result.reference is first.features
    assert front_end.counters == Counters(received=3, processed=2, dropped=0, failed=1)


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.uint8), np.zeros((40, 40), np.float32), None])
def test_an_unusable_image_fails_with_its_sentence(front_end, problems, image):
    assert front_end.process(Frame(1, lambda: image)) is None
    assert front_end.counters.failed == 1 and "the image" in problems[0][1]


def test_an_unexpected_exception_fails_the_frame_but_not_the_front_end(front_end, frame, problems, caplog):
    caplog.set_level("DEBUG")

    def decode():
        raise KeyError("surprise")

    assert front_end.process(Frame(1, decode)) is None
    assert problems == [("image", "KeyError: 'surprise'")] and "Traceback" in caplog.text
    assert front_end.process(frame(40)).homography.status == Status.FIRST_FRAME


def test_a_black_image_is_processed_without_a_homography(front_end, frame):
    front_end.process(frame(0))
    result = front_end.process(Frame(40 * MS, lambda: np.zeros((160, 208), np.uint8)))
    assert result.homography.status in (Status.TOO_FEW_MATCHES, Status.NO_CONSENSUS)


def test_without_keypoints_there_are_too_few_matches_and_the_sequence_continues(superpoint, frame):
    settings = replace(SETTINGS, coast=0)
    front_end = FrontEnd(superpoint, settings)
    front_end.process(frame(0))
    front_end.configure(replace(settings, extraction={**SETTINGS.extraction, "detection_threshold": 1.0}))
    result = front_end.process(frame(40, 1))
    assert len(result.features) == 0 and len(result.track_ids) == 0
    assert result.homography.status == Status.TOO_FEW_MATCHES
    front_end.configure(settings)
    assert front_end.process(frame(80, 2)).homography.status == Status.TOO_FEW_MATCHES
    assert front_end.process(frame(120, 3)).homography.status == Status.OK


def test_cameras_are_independent(front_end, frame):
    statuses = [
        front_end.process(frame(stamp, step, camera, size)).homography.status
        for stamp, step, camera, size in [
            (40, 0, "left", (160, 208)),
            (40, 0, "right", (128, 192)),
            (80, 1, "left", (160, 208)),
            (80, 1, "right", (128, 192)),
        ]
    ]
    assert statuses == [Status.FIRST_FRAME, Status.FIRST_FRAME, Status.OK, Status.OK]


def test_after_a_reset_a_camera_starts_over_and_others_continue(front_end, frame):
    for camera in ("left", "right"):
        front_end.process(frame(40, camera=camera))
    front_end.reset("left")
    front_end.reset("never seen")
    assert front_end.process(frame(80, 1, "left")).homography.status == Status.FIRST_FRAME
    assert front_end.process(frame(80, 1, "right")).homography.status == Status.OK


def test_the_median_of_every_stage_is_known_after_two_frames(front_end, frame):
    assert front_end.stopwatch.medians() == {}
    front_end.process(frame(0))
    assert set(front_end.stopwatch.medians()) == set(STAGES) - {"match", "homography", "refine", "epipolar"}
    front_end.process(frame(40, 1))
    medians = front_end.stopwatch.medians()
    assert set(medians) == set(STAGES) and all(0 < seconds < 60 for seconds in medians.values())


def test_an_invalid_setting_is_rejected_and_changes_nothing(front_end, superpoint):
    before = superpoint.settings
    with pytest.raises(ValueError, match="nms_radius"):
        front_end.configure(replace(SETTINGS, ratio=0.5, extraction={**SETTINGS.extraction, "nms_radius": -2}))
    assert front_end.settings is SETTINGS and superpoint.settings == before


def test_an_unknown_rotation_or_method_is_rejected_in_a_sentence():
    with pytest.raises(ValueError, match="rotation 'sideways' is unknown, allowed is one of upright, any"):
        FrontEndSettings(rotation="sideways")
    with pytest.raises(ValueError, match="homography method 'guess' is unknown, allowed is one of magsac"):
        replace(SETTINGS, method="guess")


def test_any_rotation_is_rejected_for_descriptors_that_cannot_be_steered(tiny_network, randomised, tmp_path):
    path = tmp_path / "odd.safetensors"
    weights.save(randomised(SuperPointNet(replace(tiny_network.architecture, descriptor_size=22))), path)
    superpoint, steered = SuperPoint(path, device="cpu"), replace(SETTINGS, rotation="any")
    front_end, message = FrontEnd(superpoint, SETTINGS), "22 components, allowed for rotation 'any' is a multiple of 4"
    with pytest.raises(ValueError, match=message):
        front_end.configure(steered)
    assert front_end.settings is SETTINGS
    with pytest.raises(ValueError, match=message):
        FrontEnd(superpoint, steered)


@pytest.mark.data
def test_a_real_recording_runs_through_without_a_break(front_end, shared_data, problems):
    paths = sorted((shared_data / "sequences/euroc_v1_01/mav0/cam0/data").glob("*.png"))[:4]
    assert len(paths) == 4
    results = [front_end.process(Frame(int(p.stem), lambda p=p: cv2.imread(str(p), cv2.IMREAD_COLOR))) for p in paths]
    assert not problems and front_end.counters.processed == 4
    assert [r.homography.status for r in results] == [Status.FIRST_FRAME] + [Status.OK] * 3
    assert all(r.features.image_size == (480, 752) for r in results)


CAMERAS = {"left": (160, 208), "right": (160, 208), "rear": (96, 120)}


def test_cameras_extracted_together_equal_separate_ones_and_a_bad_frame_fails_alone(superpoint, view, problems):
    def frame(camera, step):
        bad = camera == "right" and step == 2
        size = (8, 8) if bad else CAMERAS[camera]
        return Frame((40 * step + 1) * MS, lambda: view(step, size), camera)

    alone, results = FrontEnd(superpoint, SETTINGS), []
    expected = {
        (c, step): alone.process(frame(c, step)) for step in range(4) for c in CAMERAS if (c, step) != ("right", 2)
    }

    def on_result(result):
        results.append(result)
        step = int(result.frame.stamp / MS) // 40
        if result.frame.camera == "rear" and step < 3:
            for camera in CAMERAS:  # submitted by the worker itself, so that all of them wait
                together.submit(frame(camera, step + 1))

    together = FrontEnd(superpoint, SETTINGS, on_result, lambda *problem: problems.append(problem), together=True)
    for camera in CAMERAS:
        together.submit(frame(camera, 0))
    together.start()
    assert together.drain(60)
    together.close()
    assert [camera for camera, _ in problems] == ["right"] and "8x8" in problems[0][1]
    assert together.counters == Counters(received=12, processed=11, failed=1)
    assert together.counters_of("right") == Counters(received=4, processed=3, failed=1)
    assert together.counters_of("nobody") == Counters()
    assert len(results) == 11
    for result in results:
        same = expected[result.frame.camera, int(result.frame.stamp / MS) // 40]
        assert result.image.shape == same.image.shape and result.reference_stamp == same.reference_stamp
        np.testing.assert_allclose(result.features.keypoints, same.features.keypoints, atol=1e-3)
        np.testing.assert_array_equal(result.matches.indices, same.matches.indices)
        np.testing.assert_array_equal(result.track_ids, same.track_ids)
