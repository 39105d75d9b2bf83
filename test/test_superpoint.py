"""SuperPoint on images of any size, type and number."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from superpoint_ros import ImageError, SuperPoint
from superpoint_ros.extraction.decoding import heatmap
from superpoint_ros.extraction.weights import WeightsError

SIZES = [(16, 16), (17, 23), (121, 163), (480, 640)]


def picture(photograph, size):
    """Crop the centre of the photograph, scaled up if necessary."""
    height, width = size
    if width > 512:
        photograph = cv2.resize(photograph, (width, width))
    y, x = (photograph.shape[0] - height) // 2, (photograph.shape[1] - width) // 2
    return np.ascontiguousarray(photograph[y : y + height, x : x + width])


def assert_valid(features, image, size, limit=1000):
    count = len(features)
    assert features.keypoints.shape == (count, 2) and features.keypoints.dtype == np.float32
    assert features.scores.shape == (count,) and features.scores.dtype == np.float32
    assert features.descriptors.shape == (count, size) and features.descriptors.dtype == np.float32
    assert features.image_size == image.shape[:2] and count <= limit
    assert (np.diff(features.scores) <= 0).all() and (features.scores > 0).all() and (features.scores <= 1).all()
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-4)
    height, width = image.shape[:2]
    assert (features.keypoints >= 0).all() and (features.keypoints <= (width - 1, height - 1)).all()


def assert_same(first, second):
    assert first.image_size == second.image_size
    np.testing.assert_allclose(first.keypoints, second.keypoints, atol=1e-3)
    np.testing.assert_allclose(first.scores, second.scores, atol=1e-5)
    np.testing.assert_allclose(first.descriptors, second.descriptors, atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_every_size_grey_or_colour_yields_valid_features(superpoint, photograph, size):
    image = picture(photograph, size)
    superpoint.configure(border=0)
    for kind in (image, cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)):
        features = superpoint.extract(kind)
        assert len(features) > 0
        assert_valid(features, kind, superpoint.descriptor_size)


def test_the_default_weights_yield_valid_features_on_a_photograph(photograph):
    superpoint = SuperPoint(device="cpu", precision="float32", max_keypoints=200)
    image = picture(photograph, (120, 160))
    features = superpoint.extract(image)
    assert 0 < len(features) and superpoint.descriptor_size == 256
    assert_valid(features, image, 256, limit=200)


@pytest.mark.parametrize("size", SIZES[:3])
def test_a_grey_image_and_its_copy_in_three_channels_have_the_same_features(superpoint, grey, size):
    image = picture(grey, size)
    first, second = superpoint.extract(image), superpoint.extract(np.dstack([image] * 3))
    assert_same(first, second)


class Watched:
    """A runtime that records its input."""

    def __init__(self, runtime):
        self.runtime, self.device, self.precision, self.seen = runtime, runtime.device, runtime.precision, []

    def __call__(self, images):
        self.seen.append(images)
        return self.runtime(images)


def test_colour_is_read_as_bgr(superpoint, photograph):
    image = picture(photograph, (64, 96))
    superpoint.runtime = Watched(superpoint.runtime)
    superpoint.extract(image)
    seen = superpoint.runtime.seen
    expected = image.astype(float) @ (0.114, 0.587, 0.299)
    assert seen[0].shape == (1, 1, 64, 96)
    np.testing.assert_allclose(seen[0][0, 0].numpy(), expected, atol=1)


def test_a_view_of_a_larger_image_equals_its_copy(superpoint, photograph):
    view = photograph[100:260:2, 40:300:2][:, ::-1]
    assert_same(superpoint.extract(view), superpoint.extract(view.copy()))


@pytest.mark.parametrize("size", [(17, 23), (121, 163)])
def test_nothing_is_detected_in_the_padding(superpoint, grey, size):
    image = picture(grey, size)
    superpoint.configure(border=0, nms_radius=0, detection_threshold=0.0, subpixel=False, max_keypoints=10**6)
    keypoints = superpoint.extract(image).keypoints
    # Every pixel has some probability: each must occur once and none outside the image.
    assert len(keypoints) == len(np.unique(keypoints, axis=0)) == size[0] * size[1]


def test_the_padding_is_replicated_and_creates_no_edge(superpoint, grey):
    image = picture(grey, (17, 21))
    superpoint.runtime = Watched(superpoint.runtime)
    superpoint.extract(image)
    seen = superpoint.runtime.seen
    np.testing.assert_array_equal(seen[0][0, 0].numpy(), np.pad(image, ((0, 7), (0, 3)), mode="edge"))


def test_settings_affect_the_keypoints(superpoint, grey):
    superpoint.configure(max_keypoints=20000, nms_radius=6, detection_threshold=0.02, border=20, subpixel=False)
    image = picture(grey, (240, 320))
    found = superpoint.extract(image)
    apart = np.abs(found.keypoints[:, None] - found.keypoints[None]).max(axis=2)
    assert len(found) > 20 and apart[~np.eye(len(found), dtype=bool)].min() > 6
    assert found.scores.min() >= 0.02
    assert found.keypoints.min() >= 20 and (found.keypoints < (300, 220)).all()
    superpoint.configure(max_keypoints=10)
    np.testing.assert_array_equal(superpoint.extract(image).keypoints, found.keypoints[:10])


def test_a_batch_of_mixed_sizes_equals_single_extractions_in_order(superpoint, photograph, grey):
    images = [
        picture(photograph, (96, 128)),
        picture(grey, (121, 163)),
        picture(grey, (96, 128))[::-1],
        picture(photograph, (17, 23)),
        picture(grey, (121, 163))[:, ::-1],
    ]
    batch = superpoint.extract_batch(images)
    assert len(batch) == len(images)
    for features, image in zip(batch, images, strict=True):
        assert_same(features, superpoint.extract(image))


def test_a_batch_larger_than_one_forward_pass_and_an_empty_one_work(superpoint, grey):
    images = [np.roll(picture(grey, (32, 40)), 5 * index, axis=1) for index in range(19)]
    batch = superpoint.extract_batch(images)
    assert_same(batch[18], superpoint.extract(images[18]))
    assert len(batch) == 19 and superpoint.extract_batch([]) == []


class BrightPixels:
    """A runtime that detects keypoints at bright pixels, so that their true positions are known."""

    device = torch.device("cpu")
    precision = "float32"

    def __call__(self, images):
        cells = torch.nn.functional.pixel_unshuffle(images.float() / 255, 8)
        logits = torch.log(
            cells * 0.01 + 1e-12
        )  # relative to a last bin of 0: probabilities proportional to brightness
        return heatmap(torch.cat((logits, torch.zeros_like(logits[:, :1])), dim=1)), cells


@pytest.mark.parametrize("resize", [0, 320, 900])
def test_keypoints_of_a_resized_image_are_in_pixels_of_the_original(superpoint, resize):
    superpoint.runtime = BrightPixels()
    random = np.random.default_rng(0)
    centres = np.mgrid[40:600:80, 40:400:80].reshape(2, -1).T + random.uniform(-10, 10, (35, 2))
    sigma = 1.0 if resize == 0 else max(0.7, 600 / resize)  # about a pixel of the network's input
    rows, columns = np.mgrid[0:400, 0:600]
    image = sum(250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)) for x, y in centres)
    superpoint.configure(resize=resize, detection_threshold=0.003)
    found = superpoint.extract(np.round(image).clip(0, 255).astype(np.uint8))
    assert found.image_size == (400, 600) and len(found) == len(centres)
    offset = found.keypoints[:, None] - centres[None]
    offset = offset[np.linalg.norm(offset, axis=2).argmin(axis=0), np.arange(len(centres))]
    assert np.abs(offset).max() < 0.5
    assert np.abs(offset.mean(axis=0)).max() < 0.05  # sensitive to half-pixel errors of the convention


def test_resize_equals_resizing_beforehand(superpoint, grey):
    image = picture(grey, (150, 300))
    expected = superpoint.extract(cv2.resize(image, (120, 60), interpolation=cv2.INTER_AREA))
    superpoint.configure(resize=120)
    found = superpoint.extract(image)
    np.testing.assert_allclose(found.keypoints, (expected.keypoints + 0.5) * 2.5 - 0.5, atol=1e-3)
    np.testing.assert_allclose(found.descriptors, expected.descriptors, atol=1e-5)


def test_a_long_narrow_image_can_be_resized(superpoint, grey):
    superpoint.configure(resize=32, border=0)
    image = picture(grey, (16, 500))
    assert_valid(superpoint.extract(image), image, superpoint.descriptor_size)


def test_without_keypoints_arrays_are_empty_with_the_usual_shapes(superpoint, grey):
    superpoint.configure(detection_threshold=1.0)
    found = superpoint.extract(picture(grey, (64, 64)))
    shapes = [array.shape for array in (found.keypoints, found.scores, found.descriptors)]
    assert shapes == [(0, 2), (0,), (0, superpoint.descriptor_size)]
    assert len(found) == 0 and found.image_size == (64, 64)
    assert {array.dtype for array in (found.keypoints, found.scores, found.descriptors)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("value", [0, 255])
def test_a_uniform_image_works(superpoint, value):
    image = np.full((50, 70, 3), value, np.uint8)
    assert_valid(superpoint.extract(image), image, superpoint.descriptor_size)


def test_results_are_float32_when_the_network_computes_in_bfloat16(tiny_weights, grey):
    exact = SuperPoint(tiny_weights, device="cpu", precision="float32", detection_threshold=0.05)
    rough = SuperPoint(tiny_weights, device="cpu", precision="bfloat16", detection_threshold=0.05)
    image = picture(grey, (240, 320))
    first, second = exact.extract(image), rough.extract(image)
    assert_valid(second, image, rough.descriptor_size)
    distance = np.linalg.norm(first.keypoints[:, None] - second.keypoints[None], axis=2).min(axis=1)
    assert np.median(distance) < 0.1  # the same points, and not on the grid of bfloat16, which has steps of 1 and 2
    assert np.mean(second.keypoints[:, 0] % 1 != 0) > 0.5


def test_extraction_does_not_modify_the_image(superpoint, photograph):
    assert not photograph.flags.writeable
    superpoint.extract(photograph)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((15, 40), np.uint8), "40x15"),
        (np.zeros((40, 15, 3), np.uint8), "15x40"),
        (np.zeros((0, 0), np.uint8), "0x0"),
        (np.zeros((40, 40, 4), np.uint8), "(40, 40, 4)"),
        (np.zeros((1, 40, 40, 3), np.uint8), "(1, 40, 40, 3)"),
        (np.zeros(400, np.uint8), "(400,)"),
        (np.zeros((40, 40), np.float32), "float32"),
        (np.zeros((40, 40), np.uint16), "uint16"),
        (None, "NoneType"),
        ([[1, 2], [3, 4]], "list"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_unusable_image_is_an_error_with_the_reason(superpoint, image, words):
    for extract in (superpoint.extract, lambda picture: superpoint.extract_batch([picture])):
        with pytest.raises(ImageError) as caught:
            extract(image)
        assert words in str(caught.value) and "allowed" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_keypoints", 0),
        ("nms_radius", -1),
        ("detection_threshold", -0.1),
        ("detection_threshold", float("nan")),
        ("border", -1),
        ("resize", -1),
        ("resize", 15),
    ],
)
def test_an_invalid_setting_is_rejected_by_name_and_changes_nothing(superpoint, tiny_weights, name, value):
    before = superpoint.settings
    with pytest.raises(ValueError, match=f"{name} is .* allowed"):
        superpoint.configure(**{"subpixel": False, "max_keypoints": 5, name: value})
    assert superpoint.settings == before
    with pytest.raises(ValueError, match=name):
        SuperPoint(tiny_weights, **{name: value})


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"device": "toaster"}, "device 'toaster' is unknown"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not in this machine"),
        ({"runtime": "abacus"}, "runtime 'abacus' is unknown"),
        ({"precision": "int3"}, "precision 'int3' is unknown"),
        ({"device": "cpu", "runtime": "pytorch", "precision": "float16"}, "precision 'float16' needs a CUDA device"),
    ],
)
def test_an_unavailable_device_runtime_or_precision_is_rejected(tiny_weights, choice, words):
    with pytest.raises(ValueError, match=words):
        SuperPoint(tiny_weights, **choice)


def test_from_pretrained_accepts_paths_names_and_options(tiny_weights):
    superpoint = SuperPoint.from_pretrained(str(tiny_weights), max_keypoints=7, device="cpu")
    assert superpoint.settings.max_keypoints == 7 and superpoint.weights.path == tiny_weights
    with pytest.raises(WeightsError, match="imaginary"):
        SuperPoint.from_pretrained("imaginary")


@pytest.mark.cuda
def test_cuda_equals_the_cpu(tiny_weights, superpoint, grey):
    image = picture(grey, (240, 320))
    found = SuperPoint(tiny_weights, device="cuda", precision="float32").extract(image)
    assert found.device_descriptors.device.type == "cuda"
    expected = superpoint.extract(image)
    distance = np.linalg.norm(found.keypoints[:, None] - expected.keypoints[None], axis=2).min(axis=1)
    assert np.mean(distance < 0.05) > 0.98
