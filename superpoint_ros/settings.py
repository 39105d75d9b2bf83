"""The front end's settings, from the node's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from superpoint_ros import interface
from superpoint_ros.superpoint import Extraction


@dataclass(frozen=True)
class FrontEndSettings:
    """What may change between two frames; names and units as in `interface.PARAMETERS`."""

    extraction: Mapping[str, Any]
    min_similarity: float
    ratio: float
    method: str
    threshold: float
    min_inliers: int
    align: bool
    max_gap: float
    tracking: bool

    @staticmethod
    def from_parameters(values: Mapping[str, Any]) -> FrontEndSettings:
        """Settings from checked parameter values; missing ones take their defaults."""
        p = {**interface.defaults(), **values}
        return FrontEndSettings(
            extraction={field.name: p[field.name] for field in fields(Extraction)},
            min_similarity=p["match.min_similarity"],
            ratio=p["match.ratio"],
            method=p["homography.method"],
            threshold=p["homography.threshold"],
            min_inliers=p["homography.min_inliers"],
            align=p["homography.align"],
            max_gap=p["max_gap"],
            tracking=p["tracking"],
        )
