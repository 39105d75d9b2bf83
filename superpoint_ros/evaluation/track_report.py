"""Report evaluations of tracks as tables, JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superpoint_ros.evaluation.results import finite, versions
from superpoint_ros.evaluation.tables import Column, Table, markdown_text, method_table, show_tables
from superpoint_ros.evaluation.track_sources import Source
from superpoint_ros.evaluation.track_summary import AFTER, NMSE_AFTER, Run
from superpoint_ros.evaluation.tracks import WRONG
from superpoint_ros.io.files import write_texts

if TYPE_CHECKING:
    from rich.console import Console

_MATCHES = [
    Column("per frame", "matches", 0),
    Column("median", "match_median", less=True),
    Column("rms", "match_rms", less=True),
    Column("wrong", "wrong", 4, less=True),
    Column("NMSE", "match_nmse", 2, ranked=False),
]
_TRACKS = [
    Column("length", "length", 1),
    Column("alive", "alive", 0),
    *(Column(f"off@{step}", f"off_{step}", less=True) for step in AFTER),
    Column("scatter", "scatter", less=True),
    Column("NMSE", "nmse", 2, ranked=False),
    Column("coasted", "coasted", 3, ranked=False),
]
_SURVIVAL = [Column(f"after {step}", f"survival_{step}") for step in AFTER]


def tables(source: Source, runs: Sequence[Run]) -> list[Table]:
    """Build the tables of matches, tracks and survival, without columns that are empty for all methods."""
    truth = source.truth
    against = {"points": "the truth", "lines": "the true epipolar line"}[truth.kind]
    still = (
        "; stationary camera: scatter is that of tracks of 10 frames or more, without their common motion"
        if truth.still
        else ""
    )
    matches = (
        f"pixels from {against}, over all matches with the previous frame that are at most {WRONG:g} px from it; wrong "
        f"is the fraction of the others"
    )
    found = (
        f"length in frames, weighted by points; alive: points per frame that were seen before; off@k: pixels from "
        f"{against} k frames after the first, median; NMSE of points {NMSE_AFTER} frames apart{still}"
    )
    seen = " and whose point is visible then" if truth.kind == "points" else ""
    survived = f"fraction of tracks still published after k frames, of those that start early enough{seen}"
    return [
        _table("Matches", matches, _MATCHES, runs),
        _table("Tracks", found, _TRACKS, runs),
        _table("Survival", survived, _SURVIVAL, runs),
    ]


def _table(heading: str, note: str, columns: list[Column], runs: Sequence[Run]) -> Table:
    columns = [column for column in columns if any(not math.isnan(run.values[column.metric]) for run in runs)]
    return method_table(heading, note, columns, [(run.method, run.values) for run in runs])


def show(source: Source, runs: Sequence[Run], console: Console) -> None:
    """Print the tables, with the best figures in bold, and the skipped items."""
    show_tables(tables(source, runs), source.skipped, console)


def markdown(source: Source, runs: Sequence[Run]) -> str:
    """Format the tables, with the best figures in bold, and the skipped items."""
    introduction = f"`{source.name}` ({source.kind}), {len(source)} frames."
    return markdown_text(introduction, tables(source, runs), source.skipped)


def as_dict(source: Source, runs: Sequence[Run]) -> dict[str, Any]:
    """Convert all results to a JSON-serialisable form; undefined figures are null."""
    return {
        "source": source.name,
        "kind": source.kind,
        "frames": len(source),
        "truth": source.truth.kind,
        "still": source.truth.still,
        "wrong_beyond": WRONG,
        "versions": versions(),
        "left_out": list(source.skipped),
        "methods": [
            {
                "method": run.method,
                "settings": run.settings,
                "seconds": round(run.seconds, 3),
                "summary": finite(run.values),
                "alive": run.alive.tolist(),
                "after": [
                    finite({"frames": step, "off": median, "tracks": count, "survival": run.survival[step]})
                    for step, median, count in run.drift()
                ],
            }
            for run in runs
        ],
    }


def as_csv(runs: Sequence[Run]) -> str:
    """Format one line per figure and method; those after a number of frames are off, tracks and survival."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("method", "metric", "frames", "value"))
    for run in runs:
        plain = {name: value for name, value in run.values.items() if not name.startswith(("off_", "survival_"))}
        writer.writerows((run.method, name, "", value) for name, value in plain.items())
        for step, median, count in run.drift():
            parts = {"off": median, "tracks": count, "survival": run.survival[step]}
            writer.writerows((run.method, name, step, value) for name, value in parts.items())
    return text.getvalue()


def write(source: Source, runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write tracks.json, tracks.csv and tracks.md to a folder, each atomically."""
    texts = {
        "tracks.json": json.dumps(as_dict(source, runs), indent=1, allow_nan=False) + "\n",
        "tracks.csv": as_csv(runs),
        "tracks.md": markdown(source, runs),
    }
    return write_texts(folder, texts)
