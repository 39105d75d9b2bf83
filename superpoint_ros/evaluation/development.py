"""What training measures a network by from time to time, on a few images that it does not learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from superpoint_ros.evaluation import invariance, planar, warps
from superpoint_ros.evaluation.invariance import Protocol, Transform
from superpoint_ros.evaluation.learned import SuperPointMethod
from superpoint_ros.evaluation.methods import Image
from superpoint_ros.io.images import evenly_spaced, read_grey

_THRESHOLD = 0.005
_TURNED = tuple(Transform(angle=angle) for angle in (45.0, 90.0, 180.0))
_SHRUNK = tuple(Transform(factor=factor) for factor in (2.0, 3.0))


def measure_on(held_out: Sequence[Path], most: int = 16) -> Callable[[Path], dict[str, float]]:
    """What says how good weights are: on pairs of these images warped, turned and shrunk, the shares of right matches.

    "score" is the mean of those of upright, turned (any rotation allowed) and shrunk images, so that none is learnt at
    the cost of another.

    Args:
        most: images to use, spread evenly.
    """
    chosen = evenly_spaced(held_out, most)

    def measure(weights: Path) -> dict[str, float]:
        method = SuperPointMethod(str(weights), detection_threshold=_THRESHOLD)

        def extractor(image: Image) -> tuple[np.ndarray, np.ndarray]:
            found = method.detect(image, 1000, 4)
            assert found.descriptors is not None
            return found.keypoints, found.descriptors

        upright = planar.evaluate(extractor, warps.warp_all(chosen))
        rows = [
            row
            for path in chosen
            for wanted, rotation in ((_TURNED, "any"), (_SHRUNK, "upright"))
            for row in invariance.measure(
                read_grey(path), path.name, str(path), method, wanted, Protocol(360, rotation=rotation)
            )
        ]
        share = {
            transform: float(np.mean([row.accuracy for row in rows if row.transform == transform]))
            for transform in _TURNED + _SHRUNK
        }
        turned, shrunk = (float(np.mean([share[transform] for transform in group])) for group in (_TURNED, _SHRUNK))
        return {
            "score": (upright.matching_accuracy + turned + shrunk) / 3,
            "upright": upright.matching_accuracy,
            "repeatability": upright.repeatability,
            "homography_3": upright.homography[1],
            **{f"turned_{transform.angle:g}": share[transform] for transform in _TURNED},
            **{f"shrunk_{transform.factor:g}": share[transform] for transform in _SHRUNK},
        }

    return measure
