"""The front end on a live stream: the newest frame wins, nothing queues up, and every frame is counted."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from superpoint_ros import Frame, FrontEnd, FrontEndSettings, Status

TIMEOUT = 30.0  # timeout in seconds, reached only by a failing test
IMAGE = np.zeros((32, 32), np.uint8)
SETTINGS = FrontEndSettings()


class Gate:
    """An extractor that a test blocks and releases, to control when the worker is busy."""

    def __init__(self, features):
        self.features, self.settings, self.batches = features, {}, []
        self.runtime = SimpleNamespace(device=torch.device("cpu"))
        self.busy, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def configure(self, **settings):
        self.settings = settings

    def check(self, **settings):
        pass

    def extract_batch(self, images, clock, **_):
        self.batches.append(len(images))
        self.busy.release()
        assert self.go.acquire(timeout=TIMEOUT)
        return [self.features] * len(images)

    def wait_until_busy(self):
        assert self.busy.acquire(timeout=TIMEOUT)

    def open(self, frames=1000):
        self.go.release(frames)


@pytest.fixture
def gate(make_features):
    return Gate(make_features(np.random.default_rng(0).uniform(0, 31, (20, 2)), image_size=(32, 32)))


@pytest.fixture
def results():
    return []


@pytest.fixture
def problems():
    return []


@pytest.fixture
def front_end(gate, results, problems):
    front_end = FrontEnd(gate, SETTINGS, results.append, lambda *problem: problems.append(problem))
    front_end.start()
    yield front_end
    gate.open()
    front_end.close()


def frame(stamp, camera="image", image=IMAGE):
    return Frame(stamp, lambda: image, camera)


def accounted(front_end):
    c = front_end.counters
    return c.received, c.processed, c.dropped, c.failed


def test_while_the_worker_is_busy_the_newest_frame_replaces_the_waiting_one(front_end, gate, results):
    front_end.submit(frame(1))
    gate.wait_until_busy()
    for stamp in (2, 3, 4):
        front_end.submit(frame(stamp))
    assert accounted(front_end) == (4, 0, 2, 0)
    gate.open()
    assert front_end.drain(TIMEOUT)
    assert [result.frame.stamp for result in results] == [1, 4]
    assert results[1].reference_stamp == 1 and results[1].homography.status != Status.FIRST_FRAME
    assert accounted(front_end) == (4, 2, 2, 0)


def test_waiting_frames_are_not_decoded_early(front_end, gate):
    decoded = []
    front_end.submit(frame(1))
    gate.wait_until_busy()
    for stamp in (2, 3):
        front_end.submit(Frame(stamp, lambda stamp=stamp: decoded.append(stamp) or IMAGE))
    assert not decoded
    gate.open()
    assert front_end.drain(TIMEOUT) and decoded == [3]


def test_submit_never_blocks_on_the_worker(front_end, gate):
    front_end.submit(frame(0))
    gate.wait_until_busy()
    done = threading.Event()
    threading.Thread(
        target=lambda: ([front_end.submit(frame(k)) for k in range(1, 500)], done.set()), daemon=True
    ).start()
    assert done.wait(TIMEOUT)
    assert accounted(front_end) == (500, 0, 498, 0)


def test_frames_of_all_threads_are_counted_once_with_ascending_stamps(front_end, gate, results, problems):
    gate.open()

    def stream(camera):
        for stamp in range(1, 312):
            bad = stamp % 50 == 0
            front_end.submit(Frame(stamp, fail, camera) if bad else frame(stamp, camera))

    def fail():
        raise ValueError("damaged")

    threads = [threading.Thread(target=stream, args=(f"camera {k}",)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert front_end.drain(TIMEOUT)
    received, processed, dropped, failed = accounted(front_end)
    assert received == 3 * 311 == processed + dropped + failed
    assert processed == len(results) > 0 and failed == len(problems)
    for k in range(3):
        stamps = [result.frame.stamp for result in results if result.frame.camera == f"camera {k}"]
        assert stamps and stamps == sorted(set(stamps))


def test_a_fast_camera_does_not_starve_a_slow_one(front_end, gate, results):
    front_end.submit(frame(1, "fast"))
    gate.wait_until_busy()
    front_end.submit(frame(2, "fast"))
    front_end.submit(frame(1, "slow"))
    for stamp in (3, 4):
        front_end.submit(frame(stamp, "fast"))
    gate.open(1)
    gate.wait_until_busy()  # the newest of the fast camera is being processed when the next one arrives
    front_end.submit(frame(5, "fast"))
    gate.open()
    assert front_end.drain(TIMEOUT)
    order = [(result.frame.camera, result.frame.stamp) for result in results]
    assert order == [("fast", 1), ("fast", 4), ("slow", 1), ("fast", 5)]


@pytest.fixture
def together(gate, results, problems):
    front_end = FrontEnd(gate, SETTINGS, results.append, lambda *problem: problems.append(problem), together=True)
    front_end.start()
    yield front_end
    gate.open()
    front_end.close()


def test_waiting_cameras_are_extracted_together_in_the_order_of_their_first_frames(together, gate, results):
    for camera in ("left", "right", "rear"):
        together.submit(frame(1, camera))
        gate.wait_until_busy() if camera == "left" else None
    gate.open(2)
    assert together.drain(TIMEOUT) and gate.batches == [1, 2]
    together.submit(frame(2, "rear"))
    gate.wait_until_busy()
    gate.wait_until_busy()  # only that of "rear": earlier ones are counted, too
    for camera in ("right", "rear", "left"):
        together.submit(frame(3, camera))
    gate.open()
    assert together.drain(TIMEOUT) and gate.batches == [1, 2, 1, 3]
    assert [result.frame.camera for result in results] == ["left", "right", "rear", "rear", "left", "right", "rear"]
    assert [result.reference_stamp for result in results] == [0, 0, 0, 1, 1, 1, 2]
    assert together.counters_of("rear").processed == 3 and together.counters_of("left").processed == 2


def test_waiting_cameras_take_turns_on_a_cpu_by_default(front_end, gate):
    for camera in ("left", "right", "rear"):
        front_end.submit(frame(1, camera))
    gate.open()
    assert front_end.drain(TIMEOUT) and gate.batches == [1, 1, 1]
    gate.runtime.device = torch.device("cuda")
    with_gpu = FrontEnd(gate, SETTINGS)
    for camera in ("left", "right", "rear"):
        with_gpu.submit(frame(1, camera))
    with_gpu.start()
    assert with_gpu.drain(TIMEOUT) and gate.batches[3:] == [3]
    with_gpu.close()


@pytest.mark.parametrize("error", [RuntimeError("nobody listens"), ValueError("not published")])
def test_an_exception_in_on_result_counts_as_failed_and_the_next_frame_is_processed(gate, problems, error):
    received = []

    def on_result(result):
        if not received:
            received.append(None)
            raise error
        received.append(result)

    front_end = FrontEnd(gate, SETTINGS, on_result, lambda *problem: problems.append(problem))
    front_end.start()
    gate.open()
    front_end.submit(frame(1))
    assert front_end.drain(TIMEOUT) and accounted(front_end) == (1, 0, 0, 1)
    assert len(problems) == 1 and str(error) in problems[0][1]
    front_end.submit(frame(2))
    assert front_end.drain(TIMEOUT) and accounted(front_end) == (2, 1, 0, 1)
    assert received[1].frame.stamp == 2
    front_end.close()


def test_an_exception_in_on_problem_does_not_stop_the_worker(gate, results):
    def on_problem(camera, reason):
        raise RuntimeError("the log is full")

    front_end = FrontEnd(gate, SETTINGS, results.append, on_problem)
    front_end.start()
    gate.open()
    for stamp, image in ((1, IMAGE), (1, IMAGE), (2, IMAGE)):
        front_end.submit(frame(stamp, image=image))
        assert front_end.drain(TIMEOUT)
    assert accounted(front_end) == (3, 2, 1, 0)
    front_end.close()


def test_drain_reports_whether_the_work_finished_in_time(front_end, gate):
    assert front_end.drain(0)
    front_end.submit(frame(1))
    assert not front_end.drain(0.01)
    gate.open()
    assert front_end.drain(TIMEOUT)


def test_close_finishes_the_current_frame_drops_the_waiting_one_and_is_idempotent(front_end, gate, results):
    front_end.submit(frame(1))
    gate.wait_until_busy()
    front_end.submit(frame(2))
    closing = threading.Thread(target=front_end.close)
    closing.start()
    gate.open()
    closing.join(TIMEOUT)
    assert not closing.is_alive()
    assert [result.frame.stamp for result in results] == [1]
    front_end.close()
    front_end.submit(frame(3))  # too late: ignored
    assert accounted(front_end) == (2, 1, 1, 0)


def test_a_result_callback_may_close_the_front_end(gate, results):
    front_end = FrontEnd(gate, SETTINGS, lambda result: (results.append(result), front_end.close()))
    front_end.start()
    gate.open()
    front_end.submit(frame(1))
    assert front_end.drain(TIMEOUT) and len(results) == 1


def test_a_front_end_starts_once_and_may_be_closed_without_a_start(front_end, gate):
    with pytest.raises(RuntimeError, match="started before"):
        front_end.start()
    FrontEnd(gate, SETTINGS).close()


def test_settings_from_another_thread_apply_from_the_next_frame(front_end, gate, results):
    front_end.submit(frame(1))
    gate.wait_until_busy()
    other = replace(SETTINGS, tracking=False, extraction={**SETTINGS.extraction, "max_keypoints": 7})
    changing = threading.Thread(target=front_end.configure, args=(other,))
    changing.start()
    changing.join(TIMEOUT)  # does not wait for the current frame
    assert not changing.is_alive() and not results
    assert gate.settings["max_keypoints"] == SETTINGS.extraction["max_keypoints"]
    gate.open()
    assert front_end.drain(TIMEOUT)
    front_end.submit(frame(2))
    assert front_end.drain(TIMEOUT)
    assert gate.settings["max_keypoints"] == 7
    assert [len(result.track_ids) for result in results] == [20, 0]
