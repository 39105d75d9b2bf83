"""`superpoint-ros extract` on large images: memory, and images beside them, in processes of their own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

ADDRESS_SPACE = 12 * 2**30  # bytes
MEASURED = f"""
import re, resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({ADDRESS_SPACE}, {ADDRESS_SPACE}))
from superpoint_ros.cli import main
code = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[0], file=sys.stderr)
sys.exit(code)
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc"),
]


@pytest.fixture
def extract(tmp_path):
    """Run the command on images in 12 GB of address space; gives exit code, a line per image and the peak in bytes."""

    def run(*words):
        command = [sys.executable, "-c", MEASURED, "extract", "--json", "--out", tmp_path / "out", *words]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=3000, check=False)
        peak = re.search(r"VmHWM:\s+(\d+) kB", done.stderr)
        assert peak, done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return SimpleNamespace(code=done.returncode, lines=lines, peak=1024 * int(peak[1]), log=done.stderr)

    return run


@pytest.fixture
def draw(tmp_path, photograph):
    """Write an image of (height, width) with texture everywhere; gives its path."""

    def draw(name, height, width):
        image = np.tile(photograph, (-(-height // 512), -(-width // 512), 1))[:height, :width]
        path = tmp_path / name
        assert cv2.imwrite(str(path), image)
        return path

    return draw


def test_twelve_megapixels_take_less_than_a_gigabyte_more_than_a_small_image(extract, draw):
    small, large = draw("small.jpg", 480, 640), draw("large.jpg", 3000, 4000)
    base, found = extract(small), extract(small, large)
    assert base.code == found.code == 0 and [line["keypoints"] > 100 for line in found.lines] == [True, True]
    assert found.peak - base.peak < 1e9


def test_a_hundred_megapixels_beside_a_small_image_are_done_in_twelve_gigabytes_of_address_space(extract, draw):
    large, small = draw("large.jpg", 9000, 12000), draw("small.jpg", 480, 640)
    found = extract(large, small, "--weights", "light")
    assert found.code == 0, found.log
    assert [line["keypoints"] > 100 for line in found.lines] == [True, True]
    assert found.peak < 3e9
