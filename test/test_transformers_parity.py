"""With the same weights, this package and transformers' SuperPoint find the same keypoints in the same image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from superpoint_ros import SuperPoint

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SIZE = (128, 160)
RULES = {"nms_radius": 4, "keypoint_threshold": 0.01, "border_removal_distance": 4, "max_keypoints": -1}


@pytest.fixture(scope="module")
def theirs(randomised):
    """transformers' network with random weights that give pronounced peaks."""
    model = randomised(transformers.SuperPointForKeypointDetection(transformers.SuperPointConfig(**RULES)), seed=11)
    with torch.no_grad():
        model.keypoint_decoder.conv_score_b.weight.mul_(3)
    return model


@pytest.fixture(scope="module")
def ours(theirs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("transformers")
    theirs.save_pretrained(folder)
    return SuperPoint(folder, device="cpu", precision="float32", max_keypoints=20000, nms_radius=4,
                      detection_threshold=0.01, border=4, subpixel=False)  # fmt: skip


@pytest.fixture(scope="module")
def image(grey):
    return np.ascontiguousarray(grey[60 : 60 + SIZE[0], 150 : 150 + SIZE[1]])


@pytest.fixture(scope="module")
def pixels(image):
    # The grey image in three channels; transformers' image processor converts to grey differently.
    return torch.from_numpy(image).float().div(255).expand(1, 3, *SIZE)


def found_by(model, pixels):
    """Return transformers' keypoints as {(x, y): score}, without the right and lower border, which it keeps."""
    border = model.keypoint_decoder.border_removal_distance
    with torch.inference_mode():
        outputs = model(pixels)
    places = (outputs.keypoints[0] * torch.tensor([SIZE[1], SIZE[0]])).round().int().tolist()
    scored = zip(map(tuple, places), outputs.scores[0].tolist(), strict=True)
    return {(x, y): score for (x, y), score in scored if x < SIZE[1] - border and y < SIZE[0] - border}


def test_the_heat_maps_agree(theirs, ours, image, pixels):
    decoder = theirs.keypoint_decoder
    rules = decoder.nms_radius, decoder.keypoint_threshold, decoder.border_removal_distance
    try:
        decoder.nms_radius, decoder.keypoint_threshold, decoder.border_removal_distance = 0, -1.0, 0
        dense = found_by(theirs, pixels)  # every pixel
    finally:
        decoder.nms_radius, decoder.keypoint_threshold, decoder.border_removal_distance = rules
    heat = ours.runtime(torch.from_numpy(image)[None, None])[0][0].numpy()
    assert len(dense) == heat.size and heat.max() > 0.1
    expected = np.empty_like(heat)
    for (x, y), score in dense.items():
        expected[y, x] = score
    np.testing.assert_allclose(heat, expected, atol=1e-4)


def test_the_descriptor_maps_agree(theirs, ours, image, pixels):
    head = theirs.descriptor_decoder
    with torch.inference_mode():
        encoded = theirs.encoder(pixels[:, :1]).last_hidden_state
        expected = head.conv_descriptor_b(head.conv_descriptor_a(encoded).relu())
    found = ours.runtime(torch.from_numpy(image)[None, None])[1]
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_keypoints_and_scores_agree(theirs, ours, image, pixels):
    expected = found_by(theirs, pixels)
    features = ours.extract(image)
    found = dict(zip(map(tuple, features.keypoints.astype(int).tolist()), features.scores.tolist(), strict=True))
    assert len(expected) > 50
    assert found.keys() == expected.keys()
    for place, score in expected.items():
        assert found[place] == pytest.approx(score, abs=1e-4)
