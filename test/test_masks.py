"""Masks: no keypoint and no track in them, the same number of keypoints elsewhere, and what bad masks do."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from superpoint_ros import Frame, FrontEnd, FrontEndSettings, ImageError, SuperPoint
from superpoint_ros.extraction.masks import unmasked
from superpoint_ros.node import interface
from superpoint_ros.node.masks import CameraMasks

SECOND = 1_000_000_000


def left_half(image):
    mask = np.ones(image.shape[:2], bool)
    mask[:, : image.shape[1] // 2] = False
    return mask


@pytest.fixture(scope="module")
def superpoint():
    return SuperPoint("light", device="cpu", max_keypoints=50)


@pytest.mark.parametrize("changes", [{}, {"levels": 3}, {"spread": True}, {"resize": 320}, {"tile_pixels": 250_000}])
def test_no_keypoint_is_masked_and_the_number_stays(superpoint, photograph, changes):
    image = np.ascontiguousarray(photograph[:480, :640])
    superpoint.configure(**{"levels": 1, "spread": False, "resize": 0, "tile_pixels": 2_100_000, **changes})
    mask = left_half(image)
    everywhere, masked = superpoint.extract(image), superpoint.extract(image, mask=mask)
    assert not unmasked(everywhere.keypoints, mask).all()
    assert unmasked(masked.keypoints, mask).all() and len(masked) == len(everywhere) == 50
    superpoint.configure(levels=1, spread=False, resize=0, tile_pixels=2_100_000)


def test_images_of_a_batch_have_their_own_masks(superpoint, photograph):
    image = np.ascontiguousarray(photograph[:240, :320])
    mask = left_half(image)
    plain, masked = superpoint.extract_batch([image, image], masks=[None, mask])
    np.testing.assert_allclose(plain.keypoints, superpoint.extract(image).keypoints, atol=1e-3)
    assert unmasked(masked.keypoints, mask).all() and not unmasked(plain.keypoints, mask).all()


def test_masks_may_be_one_array_and_must_be_as_many_as_the_images(superpoint, photograph):
    image = np.ascontiguousarray(photograph[:240, :320])
    masks = np.stack((np.ones((240, 320), bool), left_half(image)))
    plain, masked = superpoint.extract_batch([image, image], masks=masks)
    assert unmasked(masked.keypoints, masks[1]).all() and not unmasked(plain.keypoints, masks[1]).all()
    for wrong, count in (([], 0), (masks[:1], 1), (np.ones((3, 240, 320), bool), 3)):
        with pytest.raises(ValueError, match=f"the number of masks is {count}, allowed is that of the images, 2"):
            superpoint.extract_batch([image, image], masks=wrong)


def test_a_mask_of_everything_gives_no_keypoints_and_one_of_nothing_changes_none(superpoint, photograph):
    image = np.ascontiguousarray(photograph[:240, :320])
    assert len(superpoint.extract(image, mask=np.zeros((240, 320), bool))) == 0
    found, plain = superpoint.extract(image, mask=np.ones((240, 320), bool)), superpoint.extract(image)
    np.testing.assert_allclose(found.keypoints, plain.keypoints, atol=1e-3)  # parallel sums vary from run to run


@pytest.mark.parametrize("mask", [np.ones((10, 10), bool), np.ones((240, 320), np.uint8)])
def test_a_mask_of_another_size_or_type_is_rejected(superpoint, photograph, mask):
    with pytest.raises(ImageError, match=r"the mask is .*allowed is bool of shape \(240, 320\)"):
        superpoint.extract(np.ascontiguousarray(photograph[:240, :320]), mask=mask)


def test_tracks_end_at_the_mask(superpoint, photograph):
    front_end = FrontEnd(superpoint, FrontEndSettings(coast=10))
    image = cv2.cvtColor(np.ascontiguousarray(photograph[:240, :320]), cv2.COLOR_BGR2GRAY)
    mask = left_half(image)
    results = [
        front_end.process(
            Frame(index * SECOND // 10 + 1, lambda: image, mask=lambda size, on=index > 1: mask if on else None)
        )
        for index in range(4)
    ]
    left = [~unmasked(result.features.keypoints, mask) for result in results]
    assert left[0].any() and left[1].any() and not left[2].any() and not left[3].any()
    gone = set(results[1].track_ids[left[1]])
    assert not gone & {*results[2].track_ids, *results[3].track_ids}
    kept = set(results[1].track_ids[~left[1]])
    assert len(kept & set(results[3].track_ids)) > 0.8 * len(kept)


class Problems(dict):
    """The problems of a camera, as `report` states them."""

    def __call__(self, what, reason):
        self[what] = reason


@pytest.fixture
def masks():
    problems = Problems()

    def create(**changes):
        values = {**interface.defaults(), **changes}
        made = CameraMasks(values, "left", problems)
        return SimpleNamespace(
            add=lambda stamp, image: made.add(stamp, message(image), 10**8),
            mask=lambda stamp=0, size=(60, 80): made.mask(stamp, size, values),
        )

    return SimpleNamespace(create=create, problems=problems)


def message(image):
    height, width = image.shape
    return SimpleNamespace(
        height=height, width=width, encoding="mono8", is_bigendian=0, step=width, data=image.reshape(-1)
    )


def test_without_any_mask_there_is_none(masks):
    assert masks.create().mask() is None


def test_margins_are_masked(masks):
    expected = np.zeros((60, 80), bool)
    expected[5:50, 7:80] = True
    np.testing.assert_array_equal(masks.create(mask_top=5, mask_bottom=10, mask_left=7).mask(), expected)
    assert not masks.create(mask_top=100).mask().any()


def test_the_file_is_read_for_each_camera_and_scaled_to_the_image(masks, tmp_path):
    cv2.imwrite(str(tmp_path / "left.png"), np.repeat(np.array([[0, 255]], np.uint8), 2, axis=0))
    found = masks.create(mask=str(tmp_path / "{camera}.png")).mask()
    assert not found[:, :40].any() and found[:, 40:].all()
    assert masks.problems["mask of another size"] == "it is 2x2 pixels and is scaled to the image's 80x60"


def test_a_file_that_is_no_image_is_rejected_in_one_sentence(masks, tmp_path):
    with pytest.raises(ValueError, match=r"parameter 'mask' is '.*absent\.png', allowed is none or an image file"):
        masks.create(mask=str(tmp_path / "absent.png"))


def test_the_received_mask_of_the_stamp_counts_else_the_latest_that_is_not_too_old(masks):
    of = masks.create(mask_max_age=0.5, mask_top=1)
    top = np.ones((60, 80), bool)
    top[:1] = False
    images = [np.full((60, 80), 255, np.uint8) for _ in range(3)]
    for index, image in enumerate(images):
        image[:, 10 * index : 10 * index + 10] = 0
        of.add(SECOND + index * SECOND // 10, image)
    np.testing.assert_array_equal(of.mask(SECOND + SECOND // 10), top & (images[1] > 0))
    np.testing.assert_array_equal(of.mask(SECOND + SECOND // 2), top & (images[2] > 0))
    assert masks.problems.get("mask missing") is None
    np.testing.assert_array_equal(of.mask(3 * SECOND), top)
    assert masks.problems["mask missing"] == "the latest mask is 1.8 s old, allowed is 0.5 s, so none is applied"
    of.add(3 * SECOND, images[0])
    np.testing.assert_array_equal(of.mask(3 * SECOND), top & (images[0] > 0))
    assert masks.problems["mask missing"] is None


def test_a_mask_of_another_size_is_no_problem_any_more_once_one_fits(masks):
    of = masks.create()
    of.add(SECOND, np.full((30, 40), 255, np.uint8))
    of.mask(SECOND)
    assert masks.problems["mask of another size"] == "it is 40x30 pixels and is scaled to the image's 80x60"
    of.add(2 * SECOND, np.full((60, 80), 255, np.uint8))
    of.mask(2 * SECOND)
    assert masks.problems["mask of another size"] is None
