"""Images of more than 8 bits: stretched to the levels in use, without flicker, and depth images rejected."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from superpoint_ros import ImageError, SuperPoint
from superpoint_ros.node.images import grey_from_compressed, grey_from_image
from superpoint_ros.node.intensity import Intensity

ODD = Path(__file__).resolve().parents[2] / "shared" / "data" / "odd"


def message(pixels, encoding):
    height, width = pixels.shape
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=width * pixels.itemsize,
        data=pixels.tobytes(),
    )


@pytest.fixture(scope="module")
def twin(grey):
    """An 8-bit image."""
    return np.ascontiguousarray(grey[:480, :500])


@pytest.fixture(scope="module")
def superpoint():
    return SuperPoint("light", device="cpu")


def deep(image, bits, seed=0):
    """The image as a camera of so many bits delivers it in mono16: the levels used are the lowest ones."""
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, image.shape)
    return np.clip(np.rint((image + noise) * (2**bits - 1) / 255), 0, 2**bits - 1).astype(np.uint16)


def found_again(first, second):
    """Share of the first keypoints with one of the second within a pixel and a half."""
    distance = np.linalg.norm(first.keypoints[:, None] - second.keypoints[None], axis=2)
    return float((distance.min(axis=1) < 1.5).mean())


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_few_used_bits_give_the_keypoints_of_the_8_bit_twin(superpoint, twin, bits):
    expected = superpoint.extract(twin)
    stretched = superpoint.extract(grey_from_image(message(deep(twin, bits), "mono16"), intensity=Intensity("auto")))
    assert found_again(expected, stretched) >= 0.9
    if bits <= 12:
        linear = superpoint.extract(grey_from_image(message(deep(twin, bits), "mono16")))
        assert len(linear) < 0.7 * len(expected)


def test_features_do_not_flicker(superpoint, twin):
    intensity, counts = Intensity("auto"), []
    for index in range(8):
        image = deep(twin, 12, seed=index)
        image[:12, : 6 * index] = 60_000  # a growing glare
        counts.append(len(superpoint.extract(grey_from_image(message(image, "mono16"), intensity=intensity))))
    assert (np.abs(np.diff(counts)) <= 0.05 * np.array(counts[:-1])).all()


def test_the_range_follows_smoothly_but_another_scene_at_once():
    intensity = Intensity("auto")
    ramp = np.linspace(1000, 2000, 64 * 64, dtype=np.uint16).reshape(64, 64)
    first = intensity(ramp)
    assert first.min() == 0 and first.max() == 255
    brighter = intensity(ramp + np.uint16(100)).astype(int)
    assert 15 < np.median(brighter - first) < 25  # of 25 levels, nine tenths are still seen
    np.testing.assert_allclose(intensity(ramp + np.uint16(20_000)).astype(int), first, atol=1)


def test_clahe_brings_out_faint_texture(superpoint, twin):
    faint = (twin // 12 + 100).astype(np.uint8)
    plain, equalised = (
        superpoint.extract(grey_from_image(message(faint, "mono8"), intensity=Intensity(mode)))
        for mode in ("auto", "clahe")
    )
    assert len(equalised) > 1.3 * len(plain)


def test_8_bit_images_are_as_they_are(twin):
    np.testing.assert_array_equal(grey_from_image(message(twin, "mono8"), intensity=Intensity("auto")), twin)


def test_depth_images_are_rejected_with_the_topic_to_use_unless_asked_for():
    depth = np.full((32, 32), 1500, np.uint16)
    with pytest.raises(ImageError, match=r"'16UC1' is that of depth images .* remap 'image'"):
        grey_from_image(message(depth, "16UC1"))
    with pytest.raises(ImageError, match="'16UC1' is that of depth images"):
        data = cv2.imencode(".png", depth)[1].tobytes()
        grey_from_compressed(SimpleNamespace(format="16UC1; png compressed", data=data))
    with pytest.raises(ImageError, match=r"values from 0\.5 to 4, allowed is 0 to 1: remap 'image'"):
        grey_from_image(message(np.linspace(0.5, 4, 32 * 32, dtype=np.float32).reshape(32, 32), "32FC1"))
    assert grey_from_image(message(depth, "16UC1"), intensity=Intensity("auto")).shape == (32, 32)


def test_float_images_with_holes_are_stretched_between_their_finite_values():
    pixels = np.linspace(2, 6, 32 * 32, dtype=np.float32).reshape(32, 32)
    pixels[3, 3], pixels[4, 4] = np.nan, np.inf
    found = Intensity("auto")(pixels)
    assert found[3, 3] == found[4, 4] == 0 and found[-1, -1] == 255
    with pytest.raises(ImageError, match="no finite value"):
        Intensity("auto")(np.full((16, 16), np.nan, np.float32))


def test_a_constant_image_is_no_error():
    assert len(np.unique(Intensity("auto")(np.full((16, 16), 700, np.uint16)))) == 1


@pytest.mark.parametrize("name", ["Pillow__ifd_tag_type_flir640x512.tiff", "Pillow__hopper_16bit.pgm"])
def test_real_deep_images_have_keypoints(superpoint, name):
    path = ODD / name
    if not path.exists():
        pytest.skip(f"needs {name}, which is not part of the project")
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 2:
        pytest.skip(f"this OpenCV does not read {name} as 16-bit grey")
    found = superpoint.extract(grey_from_image(message(pixels, "mono16"), intensity=Intensity("auto")))
    linear = superpoint.extract(grey_from_image(message(pixels, "mono16")))
    assert len(found) >= max(len(linear), 20)
