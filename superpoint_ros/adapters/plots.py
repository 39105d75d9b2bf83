"""Plot features and matches with matplotlib, for notebooks, papers and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import Matches

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

INLIER, OUTLIER = "#2ee66b", "#ff3b30"
_AREAS = (4.0, 60.0)  # marker areas of the lowest and the highest score, in square points
_LONGER_SIDE = 8.0  # longer side of a figure with one image, in inches
_GAP = 8  # between two images, in pixels


class Scored(Protocol):
    """Keypoints with scores: `Features`, or anything else that has both.

    Attributes:
        keypoints: (N, 2), x right, y down, in pixels; the centre of the top-left pixel is (0, 0).
        scores: (N,), any scale.
    """

    @property
    def keypoints(self) -> NDArray[np.float32]: ...

    @property
    def scores(self) -> NDArray[np.float32]: ...


def plot_features(
    image: NDArray[np.uint8],
    features: Scored,
    *,
    ax: Axes | None = None,
    title: str = "",
    colourbar: bool = False,
) -> Axes:
    """Plot an image with its keypoints, sized and coloured by score.

    Args:
        image: (H, W) grey or (H, W, 3) BGR.
        features: features of this image.
        ax: axes to draw on; default: a new figure outside pyplot.
        title: title above the image.
        colourbar: add a colour bar of the scores.

    Returns:
        The axes; `.figure.savefig("features.png")` saves the figure.

    Raises:
        ValueError: if the image has another type or shape.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    rgb = _rgb(image)
    height, width = rgb.shape[:2]
    axes = _axes(ax, (height, width), _LONGER_SIDE, title)
    _show(axes, rgb, 0)
    points = _draw_keypoints(axes, features, 0, _max_score((features,)), 1)
    _frame(axes, (height, width))
    if colourbar:
        _draw_colourbar(axes, points)
    return axes


def plot_matches(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    features_a: Scored,
    features_b: Scored,
    matches: Matches | NDArray[np.integer[Any]],
    inliers: NDArray[np.bool_] | None = None,
    *,
    ax: Axes | None = None,
    title: str = "",
    keypoints: bool = True,
) -> Axes:
    """Plot two images side by side, with lines between matched keypoints.

    Inliers are green, other matches thin and red. Without `inliers`, lines are coloured by descriptor similarity.

    Args:
        first, second: (H, W) grey or (H, W, 3) BGR images, not necessarily of the same size.
        features_a, features_b: features of the first and the second image.
        matches: matches of these features, or (M, 2) indices into their keypoints.
        inliers: (M,) bool, as in `Homography.inliers`.
        ax: axes to draw on; default: a new figure outside pyplot.
        title: title above the images.
        keypoints: also draw all keypoints, matched or not, sized and coloured by score.

    Returns:
        The axes, in pixels of the first image; the second one starts 8 pixels to its right.

    Raises:
        ValueError: if an image has another type or shape, a match refers to a missing keypoint, or `inliers` does not
            have one value per match.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    left, right = _rgb(first), _rgb(second)
    indices = np.asarray(matches.indices if isinstance(matches, Matches) else matches).reshape(-1, 2)
    _check(indices, inliers, len(features_a.keypoints), len(features_b.keypoints))
    offset = left.shape[1] + _GAP
    size = (max(left.shape[0], right.shape[0]), offset + right.shape[1])
    axes = _axes(ax, size, 1.5 * _LONGER_SIDE, title)
    _show(axes, left, 0)
    _show(axes, right, offset)
    if keypoints:
        top = _max_score((features_a, features_b))
        _draw_keypoints(axes, features_a, 0, top, 0.4)
        _draw_keypoints(axes, features_b, offset, top, 0.4)
    ends = np.stack((features_a.keypoints[indices[:, 0]], features_b.keypoints[indices[:, 1]] + [offset, 0]), axis=1)
    # Hundreds of full-width lines would hide the images.
    style: dict[str, Any] = {"linewidths": float(np.clip(200 / max(len(ends), 1), 0.3, 1)), "alpha": 0.8}
    if inliers is not None:
        agree = np.asarray(inliers, bool)
        _draw_lines(axes, ends[~agree], "other matches", colors=OUTLIER, linewidths=0.3, alpha=0.8)
        _draw_lines(axes, ends[agree], "inliers", colors=INLIER, **style)
    elif isinstance(matches, Matches):
        _draw_lines(axes, ends, "matches", array=matches.similarity, cmap="viridis", **style)
    else:
        _draw_lines(axes, ends, "matches", colors=INLIER, **style)
    _frame(axes, size)
    return axes


def _axes(ax: Axes | None, size: tuple[int, int], longer_side: float, title: str) -> Axes:
    """Return the given axes, or new ones with the aspect of a (height, width) image and `longer_side` in inches."""
    if ax is None:
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "plots need matplotlib, install it with: pip install 'superpoint_ros[plot]'", name=error.name
            ) from error
        # Even a narrow image needs room for its markers and its title.
        height, width = (max(side * longer_side / max(size), 1.0) for side in size)
        figure = Figure(figsize=(width, height + (0.35 if title else 0)))
        FigureCanvasAgg(figure)
        figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02)
        ax = figure.add_subplot()
    if title:
        ax.set_title(title, fontsize="medium")
    return ax


def _show(axes: Axes, rgb: NDArray[np.uint8], offset: int) -> None:
    height, width = rgb.shape[:2]
    # Extend by half a pixel, so that pixel centres are at whole numbers.
    extent = (offset - 0.5, offset + width - 0.5, height - 0.5, -0.5)
    axes.imshow(rgb, extent=extent, interpolation="antialiased")


def _frame(axes: Axes, size: tuple[int, int]) -> None:
    axes.set(xlim=(-0.5, size[1] - 0.5), ylim=(size[0] - 0.5, -0.5), aspect="equal")
    axes.set_axis_off()


def _max_score(found: tuple[Scored, ...]) -> float:
    """Return the maximum score, the common upper end of the colour scale of both images."""
    return max((float(np.max(each.scores)) for each in found if len(each.scores)), default=0.0) or 1.0


def _draw_keypoints(axes: Axes, features: Scored, offset: int, top: float, size: float) -> PathCollection:
    from matplotlib.colors import PowerNorm

    # Scores fall off steeply: on a linear scale almost all would look alike. The best are drawn last.
    scale = PowerNorm(0.5, 0, top, clip=True)
    scores = np.asarray(features.scores, float)[::-1]
    x, y = np.asarray(features.keypoints, float).reshape(-1, 2)[::-1].T
    areas = size * (_AREAS[0] + (_AREAS[1] - _AREAS[0]) * np.clip(scores / top, 0, 1))
    points = axes.scatter(x + offset, y, areas, scores, cmap="plasma", norm=scale, label="keypoints", zorder=3)
    points.set(linewidths=0.4 * size, edgecolors="black")
    return points


def _draw_colourbar(axes: Axes, points: PathCollection) -> None:
    from matplotlib.ticker import MaxNLocator

    beside = axes.inset_axes((1.01, 0, 0.02, 1))
    axes.figure.colorbar(points, cax=beside, label="score", ticks=MaxNLocator(5))


def _draw_lines(axes: Axes, ends: NDArray[np.floating], label: str, **style: Any) -> None:
    from matplotlib.collections import LineCollection

    axes.add_collection(LineCollection(list(ends), label=label, zorder=2, **style))


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert (H, W) grey or (H, W, 3) BGR to (H, W, 3) RGB."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"the image is {kind}, allowed is a uint8 array")
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)) or 0 in image.shape:
        raise ValueError(f"the image has shape {image.shape}, allowed is (H, W) or (H, W, 3)")
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image[..., ::-1]


def _check(indices: NDArray[Any], inliers: NDArray[np.bool_] | None, count_a: int, count_b: int) -> None:
    if inliers is not None and len(inliers) != len(indices):
        raise ValueError(f"there are {len(inliers)} inliers, allowed is one value for each of {len(indices)} matches")
    for side, count in enumerate((count_a, count_b)):
        chosen = indices[:, side]
        if len(chosen) and not (0 <= chosen.min() and chosen.max() < count):
            worst = chosen.min() if chosen.min() < 0 else chosen.max()
            name = ("first", "second")[side]
            raise ValueError(f"a match refers to keypoint {worst} of the {name} image, allowed is 0 to {count - 1}")
