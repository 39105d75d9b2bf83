"""Plot the results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from superpoint_ros.benchmark.subjects import OURS


def plot(results: Mapping[str, Any], path: str | Path) -> None:
    """Write a PNG: time against megapixels for single images, and images per second against the batch.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    by_size, by_batch = figure.subplots(1, 2)
    reference = results["reference"]["width"], results["reference"]["height"]
    for name, about in results["subjects"].items():
        cases = [case for case in results["cases"] if name in case["subjects"]]
        style = {"marker": "o", "linestyle": "-" if about["group"] == OURS else "--", "label": name}
        single = sorted((c for c in cases if c["batch"] == 1), key=lambda c: c["width"] * c["height"])
        if single:
            sizes = [case["width"] * case["height"] / 1e6 for case in single]
            by_size.plot(sizes, [case["subjects"][name]["extract"]["median"] for case in single], **style)
        batches = sorted((c for c in cases if (c["width"], c["height"]) == reference), key=lambda c: c["batch"])
        if batches:
            counts = [case["batch"] for case in batches]
            by_batch.plot(counts, [case["subjects"][name]["images_per_second"] for case in batches], **style)
    by_size.set(xscale="log", yscale="log", xlabel="megapixels", ylabel="milliseconds", title="one image")
    by_batch.set(yscale="log", xlabel="images in a batch", ylabel="images per second")
    by_batch.set_xticks(sorted({case["batch"] for case in results["cases"]}))
    by_batch.set_title(f"{reference[0]}x{reference[1]}")
    for axes in (by_size, by_batch):
        axes.grid(True, which="both", alpha=0.3)
    by_size.legend(fontsize="small")
    machine = results["machine"]
    figure.suptitle(
        f"{machine['processor']}, device {machine['device']}, {machine['threads']} threads, {machine['date']}"
    )
    figure.savefig(str(path), format="png", dpi=110)
