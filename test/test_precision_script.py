"""benchmarks/precision.py measures the accuracy of low precision on pairs with ground truth."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest


@pytest.fixture
def pairs(tmp_path, grey):
    """Two sequences of a photograph and a shifted window of it."""
    for index in range(2):
        folder = tmp_path / "pairs" / f"w_{index}"
        folder.mkdir(parents=True)
        for number, top in ((1, 100), (2, 104 + index)):
            cv2.imwrite(str(folder / f"{number}.png"), grey[top : top + 200, 60:360])
        np.savetxt(folder / "H_1_2", [[1, 0, 0], [0, 1, -4 - index], [0, 0, 1]])
    return tmp_path / "pairs"


def precision(project, *words):
    script = project / "benchmarks" / "precision.py"
    return subprocess.run([sys.executable, script, *map(str, words)], capture_output=True, text=True, check=False)


def test_a_precision_is_compared_with_float32_with_difference_and_standard_error(project, pairs):
    done = precision(project, pairs, "--precisions", "bfloat16", "--runtime", "pytorch")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 pairs\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[4:]]
    assert [row[0] for row in rows] == ["float32", "bfloat16"]
    assert rows[0][1:] == ["1.000"] * 7  # any method finds a shift
    assert rows[1][2:] == ["1.000 (+0.000 ± 0.000)"] * 6
    assert 0.8 < float(rows[1][1]) < 1


def test_invalid_measurements_are_errors_of_one_sentence(project, tmp_path, pairs):
    for words in ((tmp_path / "nothing",), (pairs, "--precisions", "float8")):
        done = precision(project, *words)
        assert done.returncode == 1 and done.stderr.startswith("precision.py: ") and "Traceback" not in done.stderr
