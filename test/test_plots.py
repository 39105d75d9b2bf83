"""Figures of features and matches: positions, sizes and colours."""

from __future__ import annotations

import io
import subprocess
import sys

import cv2
import numpy as np
import pytest

from superpoint_ros import Features, Matches, estimate_homography, match, plot_features, plot_matches

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib, which draws the figures, is not installed")

from matplotlib.colors import to_rgba  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from superpoint_ros.adapters.plots import INLIER, OUTLIER  # noqa: E402
from superpoint_ros.evaluation import figures  # noqa: E402


def artists(axes, label):
    """Find the artist with this legend label."""
    return [artist for artist in axes.collections if artist.get_label() == label]


def ends(axes, label):
    """Return the (M, 2, 2) ends of the lines with this label."""
    (lines,) = artists(axes, label)
    return np.array(lines.get_segments()).reshape(-1, 2, 2)


def pixels(axes):
    """Render the figure as (H, W, 3) RGB."""
    file = io.BytesIO()
    axes.figure.savefig(file, format="png")
    return cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


@pytest.fixture
def features(make_features):
    return make_features([[10, 20], [0, 0], [149.5, 99], [80.25, 60.75]], image_size=(100, 150))


@pytest.fixture
def pair(make_features):
    """Two images of different sizes with features, and four matches between them."""
    images = np.full((100, 150, 3), 90, np.uint8), np.full((60, 80), 200, np.uint8)
    first = make_features([[10, 20], [30, 40], [149, 99], [80, 60], [5, 5]], image_size=(100, 150))
    second = make_features([[1, 2], [3, 4], [79, 59], [0, 0]], image_size=(60, 80))
    matches = Matches(np.array([[0, 1], [1, 0], [2, 2], [4, 3]]), np.array([0.9, 0.5, 0.7, 0.8], np.float32))
    return (*images, first, second, matches)


def test_keypoints_are_drawn_where_they_are(features):
    axes = plot_features(np.zeros((100, 150), np.uint8), features)
    (points,) = artists(axes, "keypoints")
    found = sorted(map(tuple, points.get_offsets().tolist()))
    assert found == sorted(map(tuple, features.keypoints.tolist()))


def test_a_pixel_and_a_keypoint_on_it_are_drawn_at_the_same_position(photograph):
    image = photograph[:60, :90]
    (shown,) = plot_features(image, Features.empty((60, 90))).images
    assert shown.get_extent() == [-0.5, 89.5, 59.5, -0.5]
    # The image is BGR, but matplotlib expects RGB.
    np.testing.assert_array_equal(shown.get_array(), image[..., ::-1])


def test_size_and_colour_depend_on_the_score(features):
    axes = plot_features(np.zeros((100, 150), np.uint8), features)
    (points,) = artists(axes, "keypoints")
    order = np.argsort(points.get_array())
    np.testing.assert_allclose(points.get_array()[order], np.sort(features.scores))
    assert (np.diff(points.get_sizes()[order]) > 0).all()
    colours = points.to_rgba(points.get_array()[order])
    brightness = colours[:, :3] @ [0.3, 0.6, 0.1]
    assert (np.diff(brightness) > 0).all()
    places = {
        tuple(place): score for place, score in zip(points.get_offsets().tolist(), points.get_array(), strict=True)
    }
    for place, score in zip(features.keypoints.tolist(), features.scores, strict=True):
        assert places[tuple(place)] == pytest.approx(score)


def test_the_best_keypoints_are_drawn_over_the_others(features):
    (points,) = artists(plot_features(np.zeros((100, 150), np.uint8), features), "keypoints")
    assert (np.diff(points.get_array()) > 0).all()


@pytest.mark.parametrize("shape", [(100, 150), (100, 150, 3), (16, 900), (900, 16)])
def test_without_keypoints_the_image_is_unchanged(shape):
    image = np.full(shape, 128, np.uint8)
    drawn = pixels(plot_features(image, Features.empty(shape[:2]), title="nothing", colourbar=True))
    assert (drawn == 128).all(axis=2).mean() > 0.05


def test_a_colour_bar_shows_the_scores(features):
    axes = plot_features(np.zeros((100, 150), np.uint8), features, colourbar=True)
    (points,) = artists(axes, "keypoints")
    assert points.colorbar.vmin == 0 and points.colorbar.vmax == pytest.approx(features.scores.max())


def test_inliers_are_green_and_other_matches_thin_and_red(pair):
    first, second, a, b, matches = pair
    inliers = np.array([True, False, True, False])
    axes = plot_matches(first, second, a, b, matches, inliers)
    shifted = b.keypoints + np.array([150 + 8, 0])
    np.testing.assert_allclose(ends(axes, "inliers"), [[a.keypoints[0], shifted[1]], [a.keypoints[2], shifted[2]]])
    np.testing.assert_allclose(
        ends(axes, "other matches"), [[a.keypoints[1], shifted[0]], [a.keypoints[4], shifted[3]]]
    )
    (green,), (red,) = artists(axes, "inliers"), artists(axes, "other matches")
    assert tuple(green.get_colors()[0][:3]) == to_rgba(INLIER)[:3] and INLIER != OUTLIER
    assert tuple(red.get_colors()[0][:3]) == to_rgba(OUTLIER)[:3]
    assert red.get_linewidth()[0] < green.get_linewidth()[0]
    drawn = pixels(axes).astype(int)
    assert ((drawn[..., 1] > 150) & (drawn[..., 0] < 100)).any() and (
        (drawn[..., 0] > 180) & (drawn[..., 1] < 110)
    ).any()


def test_the_second_image_is_to_the_right_of_the_first_with_its_keypoints(pair):
    first, second, a, b, matches = pair
    axes = plot_matches(first, second, a, b, matches)
    assert [image.get_extent() for image in axes.images] == [[-0.5, 149.5, 99.5, -0.5], [157.5, 237.5, 59.5, -0.5]]
    left, right = artists(axes, "keypoints")
    assert sorted(left.get_offsets().tolist()) == sorted(a.keypoints.tolist())
    assert sorted(right.get_offsets().tolist()) == sorted((b.keypoints + np.array([158, 0])).tolist())
    assert left.norm.vmax == right.norm.vmax == pytest.approx(0.9)
    assert axes.get_xlim() == (-0.5, 237.5) and axes.get_ylim() == (99.5, -0.5)


def test_without_inliers_lines_are_coloured_by_similarity(pair):
    axes = plot_matches(*pair, keypoints=False)
    assert not artists(axes, "keypoints")
    (lines,) = artists(axes, "matches")
    np.testing.assert_allclose(lines.get_array(), pair[4].similarity)


def test_plain_indices_are_accepted_as_matches(pair):
    *others, matches = pair
    np.testing.assert_array_equal(
        ends(plot_matches(*others, matches.indices), "matches"), ends(plot_matches(*others, matches), "matches")
    )


def test_without_matches_there_are_two_images(pair):
    first, second, a, b, _ = pair
    axes = plot_matches(first, second, a, b, Matches.empty(), np.zeros(0, bool))
    assert len(axes.images) == 2 and not len(ends(axes, "inliers")) and pixels(axes).size


def test_a_real_pair_is_drawn_with_the_inliers_of_its_homography(superpoint, photograph):
    first, second = photograph[60:260, 100:340], photograph[68:268, 116:356]
    a, b = superpoint.extract_batch([first, second])
    matches = match(a, b)
    found = estimate_homography(a, b, matches)
    axes = plot_matches(first, second, a, b, matches, found.inliers)
    lines = ends(axes, "inliers")
    assert len(lines) == found.inlier_count > 20
    # The second view is 16 right of and 8 below the first, and is drawn 248 right of it.
    np.testing.assert_allclose(np.median(lines[:, 1] - lines[:, 0], axis=0), [248 - 16, -8], atol=0.5)


def test_given_axes_are_used(features):
    figure = Figure()
    left, right = figure.subplots(1, 2)
    image = np.zeros((100, 150), np.uint8)
    assert plot_features(image, features, ax=right, title="right") is right
    assert right.get_title() == "right" and len(right.images) == 1 and not left.images
    assert plot_matches(image, image, features, features, np.array([[0, 0]]), ax=left) is left
    assert len(left.images) == 2 and left.figure is figure


def test_an_invalid_image_a_missing_keypoint_and_too_few_inliers_are_named(pair):
    first, second, a, b, matches = pair
    with pytest.raises(ValueError, match="float64, allowed is a uint8"):
        plot_features(first / 255, a)
    with pytest.raises(ValueError, match=r"shape \(100, 150, 4\)"):
        plot_features(np.zeros((100, 150, 4), np.uint8), a)
    with pytest.raises(ValueError, match="keypoint 4 of the second image, allowed is 0 to 3"):
        plot_matches(first, second, a, b, np.array([[0, 4]]))
    with pytest.raises(ValueError, match="keypoint -1 of the first image"):
        plot_matches(first, second, a, b, np.array([[-1, 0]]))
    with pytest.raises(ValueError, match="3 inliers, allowed is one value for each of 4 matches"):
        plot_matches(first, second, a, b, matches, np.ones(3, bool))


def test_import_and_drawing_have_no_side_effects():
    code = """
import sys
import superpoint_ros
assert not {"torch", "matplotlib"} & set(sys.modules)
import numpy as np
from superpoint_ros.features import Features, Matches
plot = superpoint_ros.plot_features, superpoint_ros.plot_matches
assert not {"torch", "matplotlib"} & set(sys.modules)
image, none = np.zeros((20, 30), np.uint8), Features.empty((20, 30))
plot[0](image, none).figure.savefig(sys.argv[1])
plot[1](image, image, none, none, Matches.empty()).figure.savefig(sys.argv[1])
assert not {"torch", "matplotlib.pyplot"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code, "/dev/null"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    for name in ("matplotlib.backends.backend_agg", "matplotlib.figure", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'superpoint_ros\[plot\]'"):
        plot_features(np.zeros((20, 30), np.uint8), Features.empty((20, 30)))


def test_accuracy_curves_are_one_line_per_method_from_1_to_10_pixels():
    accuracy = {"superpoint": np.linspace(0.2, 0.9, 10), "sift": np.linspace(0.3, 0.8, 10)}
    (axes,) = figures.matching_accuracy_curves(accuracy, title="all").axes
    assert {line.get_label() for line in axes.lines} == set(accuracy)
    for line in axes.lines:
        np.testing.assert_array_equal(line.get_xdata(), range(1, 11))
        np.testing.assert_array_equal(line.get_ydata(), accuracy[line.get_label()])
    assert len({line.get_color() for line in axes.lines}) == 2
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(accuracy)


def test_a_curve_of_the_wrong_length_is_named():
    with pytest.raises(ValueError, match="line 'orb' has 3 values, allowed is one for each of 10"):
        figures.matching_accuracy_curves({"orb": [0.1, 0.2, 0.3]})


def test_more_methods_than_colours_are_distinguishable():
    lines = figures.curves({f"method {i}": [0, 1] for i in range(20)}, [0, 1], "x", "y").axes[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 20


def bars(axes):
    """Return the heights of all bars as {(method, sequence): height}."""
    names = [tick.get_text() for tick in axes.get_xticklabels()]
    return {
        (group.get_label(), names[round(bar.get_x() + bar.get_width() / 2)]): bar.get_height()
        for group in axes.containers
        for bar in group
        if np.isfinite(bar.get_height())
    }


def test_each_sequence_has_a_bar_of_every_method_that_has_a_value():
    values = {"superpoint": {"i_pool": 0.5, "v_dogman": 0.25}, "sift": {"v_dogman": 0.75, "v_wall": float("nan")}}
    (axes,) = figures.sequence_bars(values, "repeatability").axes
    expected = {("superpoint", "i_pool"): 0.5, ("superpoint", "v_dogman"): 0.25, ("sift", "v_dogman"): 0.75}
    assert bars(axes) == expected
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["i_pool", "v_dogman", "v_wall"]


def test_many_sequences_continue_in_further_rows_of_the_same_scale():
    random = np.random.default_rng(0)
    values = {name: {f"s{i}": random.uniform() for i in range(116)} for name in ("a", "b", "c", "d", "e", "f")}
    panels = figures.sequence_bars(values, "repeatability").axes
    assert len(panels) == 10 and len({(*axes.get_xlim(), *axes.get_ylim()) for axes in panels}) == 1
    found = {key: height for axes in panels for key, height in bars(axes).items()}
    assert found == {(name, sequence): v for name, row in values.items() for sequence, v in row.items()}


def test_too_many_matches_are_drawn_as_a_stated_sample(pair):
    first, second, a, b, matches = pair
    inliers = np.array([True, False, False, True])
    (axes,) = figures.plot_match_pair(first, second, a, b, matches.indices, inliers, title="pair", most=2).axes
    assert axes.get_title() == "pair (2 of 4 drawn)"
    np.testing.assert_allclose(ends(axes, "inliers")[:, 0], a.keypoints[[0, 4]])
    (axes,) = figures.plot_match_pair(first, second, a, b, matches.indices, inliers, title="pair").axes
    assert axes.get_title() == "pair" and len(ends(axes, "inliers")) == len(ends(axes, "other matches")) == 2
    assert figures.plot_match_pair(first, second, a, b, matches.indices[:0], inliers[:0]).axes
