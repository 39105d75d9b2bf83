"""Figures of an evaluation: curves, bars per sequence, and match visualisations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from superpoint_ros.adapters.plots import Scored, plot_matches

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The Okabe-Ito palette, distinguishable for most colour-blind readers, without yellow, which is too faint on white.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
_DASHES = ("-", "--", ":", "-.")
_BARS_PER_ROW = 72
_LONGEST_NAME = 16


def matching_accuracy_curves(
    accuracy: Mapping[str, ArrayLike], thresholds: Sequence[float] = tuple(range(1, 11)), title: str = ""
) -> Figure:
    """Plot mean matching accuracy against the threshold of the reprojection error, one line per method.

    Args:
        accuracy: for each method, the fraction of correct matches at each threshold.
        thresholds: in pixels.
    """
    return curves(
        accuracy, thresholds, "threshold (pixels)", "mean matching accuracy", title=title, limits=(0, 1.02), marker="o"
    )


def curves(
    lines: Mapping[str, ArrayLike],
    x: ArrayLike,
    x_label: str,
    y_label: str,
    *,
    title: str = "",
    limits: tuple[float, float] | None = None,
    marker: str = "",
) -> Figure:
    """Plot one line per name, with a legend next to the axes.

    Args:
        lines: (N,) values by name; NaN leaves a gap.
        x: (N,) positions of the values.
        limits: of the vertical axis.

    Raises:
        ValueError: if a line does not have one value per position.
    """
    positions = np.asarray(x, float)
    figure, axes = _figure(7.0, 4.0)
    for (name, values), style in zip(lines.items(), _styles(), strict=False):
        y = np.asarray(values, float)
        if y.shape != positions.shape:
            raise ValueError(f"line '{name}' has {y.size} values, allowed is one for each of {len(positions)}")
        axes.plot(positions, y, label=name, marker=marker, markersize=4, linewidth=1.6, **style)
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    if marker:
        axes.set_xticks(positions)
    if limits:
        axes.set_ylim(*limits)
    _grid(axes, "both")
    if lines:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return figure


def _shorten(name: str) -> str:
    """Abbreviate a long name to its beginning and its end."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:8]}…{name[-7:]}"


def sequence_bars(values: Mapping[str, Mapping[str, float]], y_label: str, *, title: str = "") -> Figure:
    """Plot a group of bars per sequence, one bar per method; many sequences wrap into several rows.

    Args:
        values: by method, the value on each sequence; missing values and NaN leave a gap.
    """
    sequences = list(dict.fromkeys(name for row in values.values() for name in row))
    methods = max(len(values), 1)
    per_row = max(_BARS_PER_ROW // methods, 1)
    rows = [sequences[start : start + per_row] for start in range(0, len(sequences), per_row)] or [[]]
    figure, *axes = _figure(10.0, 2.4 * len(rows) + 0.6, len(rows))
    highest = max((v for row in values.values() for v in row.values() if np.isfinite(v)), default=1.0)
    for index, (panel, names) in enumerate(zip(axes, rows, strict=True)):
        for number, ((method, row), style) in enumerate(zip(values.items(), _styles(), strict=False)):
            heights = [row.get(name, float("nan")) for name in names]
            left = np.arange(len(names)) + (number - (methods - 1) / 2) * 0.8 / methods
            panel.bar(left, heights, 0.8 / methods, label=method, color=style["color"])
        turned = len(names) > 4
        panel.set_xticks(range(len(names)), [_shorten(name) for name in names], fontsize="small",
                         rotation=30 if turned else 0, ha="right" if turned else "center", rotation_mode="anchor",
                         )  # fmt: skip
        # All rows share one scale, even if the last is not full.
        panel.set(xlim=(-0.6, len(rows[0]) - 0.4), ylim=(0, 1.05 * max(highest, 1e-9)), ylabel=y_label)
        _grid(panel, "y")
        if index == 0:
            panel.set_title(title)
            if values:
                panel.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return figure


def plot_match_pair(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    found_a: Scored,
    found_b: Scored,
    matches: NDArray[np.integer[Any]],
    inliers: NDArray[np.bool_] | None = None,
    *,
    title: str = "",
    most: int = 200,
) -> Figure:
    """Plot two images side by side with their matches, inliers in green and others in red.

    Args:
        first, second: (H, W) grey or (H, W, 3) BGR uint8.
        found_a, found_b: their detections, with keypoints (N, 2) and scores (N,).
        matches: (M, 2) indices into the keypoints.
        inliers: (M,) bool.
        most: maximum number of matches to draw, evenly sampled; the title says so if there are more.
    """
    shown = np.unique(np.linspace(0, len(matches) - 1, min(most, len(matches))).round().astype(int))
    if len(shown) < len(matches):
        title = f"{title} ({len(shown)} of {len(matches)} drawn)".strip()
    agree = None if inliers is None else np.asarray(inliers)[shown]
    axes = plot_matches(
        first, second, found_a, found_b, np.asarray(matches)[shown], agree, title=title, keypoints=False
    )
    figure = axes.figure
    return figure  # type: ignore[return-value] # a figure of its own, not a subfigure


def _figure(width: float, height: float, rows: int = 1) -> Any:
    """Create a figure outside pyplot, and its axes, one below the other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, *figure.subplots(rows, 1, squeeze=False)[:, 0]


def _styles() -> Iterator[dict[str, str]]:
    """Cycle through colours and dashes in a fixed order, so that a method looks the same in every figure."""
    while True:
        for dash in _DASHES:
            for colour in _COLOURS:
                yield {"color": colour, "linestyle": dash}


def _grid(axes: Axes, axis: Any) -> None:
    axes.grid(axis=axis, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
