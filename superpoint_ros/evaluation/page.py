"""Write a report as one self-contained HTML page with inline figures and styles, which opens offline."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from superpoint_ros.io.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NUMBER = re.compile(r"[-+]?[\d.][\d.,/ ]*(e[-+]?\d+)?\s?(%|px|ms|s|m|°)?|-|nan|", re.IGNORECASE)

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --dim: #5b6470; --back: #ffffff; --line: #d8dde3; --soft: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e8ec; --dim: #9aa4af; --back: #15181c; --line: #343b43; --soft: #1e2328; }
}
body { margin: 0 auto; padding: 2rem 1.2rem 4rem; max-width: 70rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; } h2 { font-size: 1.3rem; margin-top: 2.5rem; }
p { max-width: 45rem; white-space: pre-line; }
nav { color: var(--dim); } nav a { margin-right: 1.2rem; } a { color: inherit; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.35rem 0.8rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
th { background: var(--soft); } .number { text-align: right; } tbody tr:hover { background: var(--soft); }
figure { margin: 1.2rem 0; padding: 0.6rem; background: #ffffff; border: 1px solid var(--line); border-radius: 6px;
  width: fit-content; max-width: 100%; box-sizing: border-box; }
img { display: block; max-width: 100%; height: auto; }
@media print { figure, tr { break-inside: avoid; } nav { display: none; } }
"""


@dataclass(frozen=True)
class Table:
    """A table of text cells; numeric columns are right-aligned.

    Raises:
        ValueError: if the number of cells of a row differs from the header's.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, 1):
            if len(row) != len(self.header):
                raise ValueError(f"row {number} has {len(row)} cells, allowed is {len(self.header)} as in the header")


@dataclass(frozen=True)
class Section:
    """A section of a page: plain text with blank lines between paragraphs, then the table, then the figures."""

    heading: str
    text: str = ""
    table: Table | None = None
    figures: Sequence[Figure] = ()


def write(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write a page atomically; all text is escaped.

    Raises:
        OSError: if the file cannot be written.
    """
    page = _page(title, sections)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page)


def _page(title: str, sections: Sequence[Section]) -> str:
    links = "".join(f'<a href="#s{i}">{escape(each.heading)}</a>' for i, each in enumerate(sections, 1))
    body = "\n".join(_section(f"s{i}", each) for i, each in enumerate(sections, 1))
    # The policy keeps a browser from loading anything, whatever a table contains.
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<nav>{links if len(sections) > 2 else ""}</nav>
<main>
{body}
</main>
</body>
</html>
"""


def _section(anchor: str, section: Section) -> str:
    parts = [f'<section id="{anchor}">', f"<h2>{escape(section.heading)}</h2>"]
    parts += [f"<p>{escape(text.strip())}</p>" for text in re.split(r"\n\s*\n", section.text) if text.strip()]
    if section.table is not None:
        parts.append(_table(section.table))
    parts += [_figure(figure) for figure in section.figures]
    return "\n".join([*parts, "</section>"])


def _table(table: Table) -> str:
    numeric = [
        bool(table.rows) and all(_NUMBER.fullmatch(str(row[column]).strip()) for row in table.rows)
        for column in range(len(table.header))
    ]

    def row(tag: str, cells: Sequence[str]) -> str:
        marks = [' class="number"' if number else "" for number in numeric]
        marked = zip(marks, cells, strict=True)
        return "<tr>" + "".join(f"<{tag}{mark}>{escape(str(cell))}</{tag}>" for mark, cell in marked) + "</tr>"

    body = "\n".join(row("td", cells) for cells in table.rows)
    return f"""<div class="scroll"><table>
<thead>{row("th", table.header)}</thead>
<tbody>
{body}
</tbody>
</table></div>"""


def _figure(figure: Figure) -> str:
    # Figures with images are smaller as PNG; lines and text stay sharp as SVG.
    has_images = any(axes.images for axes in figure.axes)
    kind, mime = ("png", "image/png") if has_images else ("svg", "image/svg+xml")
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=130, facecolor="white", metadata=None if has_images else {"Date": None})
    data = base64.b64encode(file.getvalue()).decode("ascii")
    name = " ".join(axes.get_title() for axes in figure.axes).strip() or "figure"
    return f'<figure><img alt="{escape(name)}" src="data:{mime};base64,{data}"></figure>'
