"""BLAS libraries run on one thread within the package, and no threads keep spinning."""

from __future__ import annotations

import threading
import time

import pytest

from superpoint_ros import Frame, FrontEnd, FrontEndSettings, Status, SuperPoint
from superpoint_ros.compute.blas import one_thread
from superpoint_ros.extraction.runtimes import RuntimeChoiceError

threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl, which sets the threads, is not installed")


def libraries():
    return [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]


# NumPy's and OpenCV's; others, such as SciPy's, may be loaded by other tests and are irrelevant.
FILES = {library["filepath"] for library in libraries()}


def threads():
    return [library["num_threads"] for library in libraries() if library["filepath"] in FILES]


@pytest.fixture(autouse=True)
def two_threads():
    """Start with more than one thread."""
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        if not threads() or max(threads()) < 2:
            pytest.skip("NumPy's BLAS has no threads of its own")
        yield


def test_within_a_block_there_is_one_thread_and_after_it_as_many_as_before():
    before = threads()
    with one_thread():
        assert set(threads()) == {1}
        with one_thread():
            pass
        assert set(threads()) == {1}
    assert threads() == before


def test_an_error_in_a_block_restores_the_threads():
    @one_thread()
    def fail():
        raise ArithmeticError

    before = threads()
    with pytest.raises(ArithmeticError):
        fail()
    assert threads() == before


def test_blocks_may_overlap_in_several_threads():
    before, inside, leave = threads(), threading.Event(), threading.Event()

    def other():
        with one_thread():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with one_thread():
        thread.start()
        assert inside.wait(10)
        assert set(threads()) == {1}
    leave.set()
    thread.join()
    assert threads() == before


@pytest.mark.serial
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_after_a_frame_no_thread_spins(runtime, photograph):
    """OpenBLAS's and ONNX Runtime's threads spin by default; each would occupy a core during the next frame."""
    try:
        superpoint = SuperPoint("light", runtime=runtime)
    except RuntimeChoiceError as error:
        pytest.skip(str(error))
    front_end = FrontEnd(superpoint, FrontEndSettings())
    results = [front_end.process(Frame(1 + 40_000_000 * number, lambda: photograph)) for number in range(3)]
    assert results[-1].homography.status == Status.OK and len(results[-1].matches) > 100
    time.sleep(0.5)  # threads that were spinning before this test have stopped by now
    front_end.process(Frame(200_000_000, lambda: photograph))
    start = time.process_time()
    time.sleep(0.1)
    assert time.process_time() - start < 0.02
