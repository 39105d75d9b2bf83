"""Images in folders as `extract --format` and `match --format` take them, and the files these write."""

from __future__ import annotations

import cv2

NAMES = ["east/frame_9.png", "east/frame_10.png", "east/frame_11.png", "west/a.png"]


def write_album(folder, photograph):
    """Four overlapping images in two folders."""
    for shift, name in enumerate(NAMES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), photograph[100 : 100 + 120, 100 + 8 * shift : 100 + 8 * shift + 160])
    return folder


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
