"""What the verbs of `evaluate` print: tables or JSON, and the names of the files that they wrote."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def show_results(
    options: argparse.Namespace, results: Callable[[], Mapping[str, Any]], title: str, show: Callable[[Console], None]
) -> None:
    """Print results as JSON with --json, otherwise a title and tables."""
    from rich.console import Console

    if options.json:
        print(json.dumps(results(), allow_nan=False))
    else:
        print(title)
        show(Console())


def name_files(options: argparse.Namespace, paths: Iterable[Path]) -> None:
    """Print the names of written files, unless stdout is for JSON."""
    if not options.json:
        print(f"written: {', '.join(map(str, paths))}")
