"""The report page: one self-contained file with escaped text."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib, which draws the figures, is not installed")

from superpoint_ros.evaluation import figures, page
from superpoint_ros.evaluation.page import Section, Table

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Reader(HTMLParser):
    """Checks the nesting of tags, and collects images, links, table cells and text."""

    def __init__(self):
        super().__init__()
        self.open, self.images, self.tags, self.cells, self.words, self.attributes = [], [], [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag == "img":
            self.images.append(dict(attributes))
        if tag in ("td", "th"):
            self.cells.append(["", dict(attributes).get("class")])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1][0] += data


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert not reader.open
    return reader


@pytest.fixture
def curve():
    return figures.matching_accuracy_curves({"superpoint": np.linspace(0, 1, 10)}, title='curve "all"')


@pytest.fixture
def picture(photograph, make_features):
    found = make_features([[10, 20], [40, 50]])
    return figures.plot_match_pair(
        photograph[:90, :120], photograph[:90, :120], found, found, np.array([[0, 0], [1, 1]])
    )


@pytest.fixture
def report(tmp_path, curve, picture):
    path = tmp_path / "new" / "report.html"
    table = Table(["method", "repeatability", "error"], [["superpoint", "0.536", "1.37 px"], ["sift", "0.489", "-"]])
    sections = [
        Section("Detector", "First.\n\nSecond\nline.", table, [curve]),
        Section("Matches", figures=[picture]),
        Section("Left out"),
    ]
    page.write(path, "Evaluation", sections)
    return path


def test_a_page_contains_headings_paragraphs_and_cells_in_order(report):
    reader = read(report)
    text = " ".join(reader.words)
    places = [text.index(part) for part in ("First.", "Second\nline.", "superpoint", "Matches\n")[:3]]
    assert places == sorted(places) and reader.tags.count("p") == 2 and reader.tags.count("h2") == 3
    assert [cell for cell, _ in reader.cells] == [
        "method", "repeatability", "error", "superpoint", "0.536", "1.37 px", "sift", "0.489", "-"
    ]  # fmt: skip


def test_columns_of_numbers_are_right_aligned(report):
    assert [mark for _, mark in read(report).cells] == [None, "number", "number"] * 3


def test_figures_are_embedded_plots_as_svg_and_images_as_png(report):
    lines, photograph = read(report).images
    kind, data = lines["src"].split(",", 1)
    assert kind == "data:image/svg+xml;base64" and b"<svg" in base64.b64decode(data, validate=True)
    kind, data = photograph["src"].split(",", 1)
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(data, validate=True), np.uint8), cv2.IMREAD_COLOR)
    assert kind == "data:image/png;base64" and min(shown.shape[:2]) > 300
    assert lines["alt"] == 'curve "all"' and photograph["alt"]


def test_a_page_has_no_external_references(report):
    reader = read(report)
    text = report.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//|url\(|@import", re.sub(r'base64,[^"]*', "", text))
    assert not {"script", "link", "iframe", "object", "base"} & set(reader.tags)
    targets = [value for name, value in reader.attributes if name in ("src", "href", "srcset", "action")]
    assert targets and all(target.startswith(("data:image/", "#")) for target in targets)
    # Browsers block references in embedded drawings, and there are none.
    drawing = base64.b64decode(reader.images[0]["src"].split(",", 1)[1]).decode()
    assert not re.search(r'(href|src)="(?!#)', drawing) and "default-src 'none'" in text


def test_the_links_at_the_top_lead_to_the_sections(report):
    attributes = read(report).attributes
    wanted = [value[1:] for name, value in attributes if name == "href"]
    assert len(wanted) == 3 and wanted == [value for name, value in attributes if name == "id"]


def test_text_is_escaped(tmp_path):
    evil = "<script>alert('x')</script> & \"more\""
    path = tmp_path / "page.html"
    page.write(path, evil, [Section(evil, evil, Table([evil], [[evil]]))])
    reader = read(path)
    assert (
        "script" not in reader.tags and "".join(reader.words).count(evil) == 6
    )  # title and heading, then the section's


def test_light_and_dark_mode_are_supported(report):
    text = report.read_text(encoding="utf-8")
    assert "color-scheme: light dark" in text and "prefers-color-scheme: dark" in text


def test_writing_again_replaces_the_page_and_leaves_nothing_else(report):
    page.write(report, "Again", [])
    assert "".join(read(report).words).count("Again") == 2
    assert [path.name for path in report.parent.iterdir()] == ["report.html"]


def test_a_page_that_cannot_be_written_keeps_the_old_one(report, curve, monkeypatch):
    before = report.read_bytes()
    curve.axes[0].set_title("$\\no_such_formula$")
    with pytest.raises(ValueError, match="no_such_formula"):
        page.write(report, "Broken", [Section("Curve", figures=[curve])])
    assert report.read_bytes() == before


def test_a_row_with_too_few_cells_is_named():
    with pytest.raises(ValueError, match="row 2 has 1 cells, allowed is 2 as in the header"):
        Table(["a", "b"], [["1", "2"], ["3"]])
