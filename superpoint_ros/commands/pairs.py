"""Choose the pairs of images to match."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import combinations
from pathlib import Path, PurePosixPath

Pair = tuple[str, str]

EXHAUSTIVE, SEQUENTIAL = "exhaustive", "sequential"


def choose_pairs(choice: str, names: Sequence[str], overlap: int) -> list[Pair]:
    """List the pairs to match, none of them twice.

    Args:
        choice: exhaustive for all pairs; sequential for each image with the `overlap` next ones in its folder, by
            name, numbers in names in their order; or a file with two names in each line, as hloc and COLMAP read them.
        names: of the images.
        overlap: maximum distance in a sequence.

    Raises:
        ValueError: in one sentence, if the file is missing, or names no pair or an image that is not among `names`.
    """
    if choice == EXHAUSTIVE:
        return list(combinations(names, 2))
    if choice == SEQUENTIAL:
        return _sequential(names, overlap)
    return _without_repeats(_read(Path(choice), set(names)))


def _sequential(names: Iterable[str], overlap: int) -> list[Pair]:
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(str(PurePosixPath(name).parent), []).append(name)
    found = []
    for members in folders.values():
        members.sort(key=_by_numbers)
        found += [
            (first, second)
            for index, first in enumerate(members)
            for second in members[index + 1 : index + 1 + overlap]
        ]
    return found


def _by_numbers(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts frame_9 before frame_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _read(path: Path, known: Collection[str]) -> list[Pair]:
    if not path.is_file():
        raise ValueError(
            f"--pairs is '{path}', allowed is {EXHAUSTIVE}, {SEQUENTIAL} or a file with the names of two images in "
            "each line"
        )
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            raise ValueError(f"line {number} of '{path}' has {len(words)} words, allowed are the names of two images")
        for word in words:
            if word not in known:
                raise ValueError(f"line {number} of '{path}' names '{word}', which is not among the images")
        found.append((words[0], words[1]))
    if not found:
        raise ValueError(f"file '{path}' names no pair of images")
    return found


def _without_repeats(pairs: Iterable[Pair]) -> list[Pair]:
    """Drop pairs of an image with itself, and those that are there in either direction."""
    found: dict[frozenset[str], Pair] = {}
    for pair in pairs:
        if pair[0] != pair[1]:
            found.setdefault(frozenset(pair), pair)
    return list(found.values())
