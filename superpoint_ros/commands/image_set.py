"""A set of images with its features and matches, which are kept on disk until all of them are complete."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from superpoint_ros.commands.arguments import track_progress
from superpoint_ros.commands.journal import Journal
from superpoint_ros.commands.pairs import Pair
from superpoint_ros.commands.sources import find_images_or_frames
from superpoint_ros.features import Features, Matches
from superpoint_ros.node.camera import Camera

_log = logging.getLogger(__name__)


class ImageSet:
    """Images of files, folders, a recording or a video.

    After an interruption the next run with the same output folder and settings continues. Images are taken as they are
    stored, without their Exif orientation, as hloc and COLMAP do.

    Args:
        arguments: image files and folders, or one recording or video.
        out: output folder; the frames of a recording are written to `images` in it.
        parameters: checked values of `arguments.EXTRACTION`.
        topic, every: see `sources.find_images_or_frames`.
        calibration: of all images, if it is not to be the recording's.
        quiet: show no progress.

    Attributes:
        root: the folder that names are relative to.
        names: of the images, those without features included.
        calibration: of all images, if it is known.

    Raises:
        ValueError: in one sentence, if there are no images.
    """

    def __init__(
        self,
        arguments: list[str],
        out: Path,
        parameters: Mapping[str, Any],
        topic: str = "",
        every: float = 0.2,
        calibration: Camera | None = None,
        quiet: bool = False,
    ) -> None:
        from superpoint_ros.node.settings import superpoint_from_parameters

        self.out, self._quiet = out, quiet
        self._superpoint = superpoint_from_parameters(parameters)
        sources = find_images_or_frames(arguments, out / "images", topic, every)
        self.root, self.calibration = sources.root, calibration or sources.calibration
        self._paths = {name: path for path, name in sources.names.items()}
        self._empty, self._max_pixels = sources.empty, parameters["max_pixels"]
        runtime = self._superpoint.runtime
        self._settings = {"weights": self._superpoint.weights.label, "root": str(self.root), **parameters,
                          "runtime": runtime.name, "precision": runtime.precision}  # fmt: skip
        self._features = Journal(self._partial / "features", self._settings)
        self._matches: Journal | None = None

    @property
    def _partial(self) -> Path:
        return self.out / "partial"

    @property
    def names(self) -> list[str]:
        return list(self._paths)

    def path(self, name: str) -> Path:
        """Return the file of an image."""
        return self._paths[name]

    def __iter__(self) -> Iterator[tuple[str, Features]]:
        """Iterate over the images with features."""
        for name in self._paths:
            if name in self._features:
                yield name, self.features(name)

    def features(self, name: str) -> Features:
        """Return the features of an image."""
        return self._features.features(name)

    def extract(self) -> None:
        """Extract the features of all images; those that cannot be read are named in the log."""
        from superpoint_ros.io.images import read_colour, to_grey

        for name in self._track([name for name in self._paths if name not in self._features], "extracting"):
            try:
                image = to_grey(read_colour(self._paths[name], self._max_pixels, upright=False))
                features = self._superpoint.extract(image)
            except (ValueError, MemoryError) as error:
                _log.warning("%s: %s", self._paths[name], error if str(error) else "it does not fit in memory")
                continue
            self._features.write_features(name, features)

    def match(self, pairs: Iterable[Pair], tests: Mapping[str, float]) -> list[Pair]:
        """Match pairs; return those of images with features, by their first images.

        Args:
            tests: keyword arguments of `match`.
        """
        from superpoint_ros import match

        others: dict[str, list[str]] = {}
        for first, second in pairs:
            if first in self._features and second in self._features:
                others.setdefault(first, []).append(second)
        settings = {**self._settings, **tests, "pairs": others}
        self._matches = Journal(self._partial / "matches", settings)
        for first in self._track([first for first in others if first not in self._matches], "matching"):
            one = self.features(first)
            found = {second: match(one, self.features(second), **dict(tests)) for second in others[first]}  # type: ignore[arg-type]
            self._matches.write_matches(first, found)
        return [(first, second) for first, seconds in others.items() for second in seconds]

    def matches(self, pairs: Iterable[Pair]) -> Iterator[tuple[str, str, Matches]]:
        """Iterate over the matches of pairs that `match` has returned."""
        assert self._matches is not None
        last, found = "", {}
        for first, second in pairs:
            if first != last:
                last, found = first, self._matches.matches(first)
            yield first, second, found[second]

    @property
    def summary(self) -> str:
        """Say how many images have features."""
        return f"{self._done} of {len(self._paths) + self._empty} images"

    @property
    def _done(self) -> int:
        return sum(name in self._features for name in self._paths)

    def finish(self) -> int:
        """Delete what was kept for an interruption; return the exit code, 0 if all images had features, else 1."""
        code = 0 if self._done == len(self._paths) + self._empty else 1
        shutil.rmtree(self._partial, ignore_errors=True)
        return code

    def _track(self, names: Sequence[str], what: str) -> Iterable[str]:
        return names if self._quiet else track_progress(names, what, len(names))
