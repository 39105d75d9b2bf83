"""From the node's parameters to an extractor and the front end's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from superpoint_ros.extraction.superpoint import Extraction, SuperPoint
from superpoint_ros.frontend.settings import FrontEndSettings
from superpoint_ros.node import interface

_CHOICES = ("weights", "descriptor_size", "device", "runtime", "precision")


def superpoint_from_parameters(values: Mapping[str, Any]) -> SuperPoint:
    """Create the extractor of validated parameter values; missing ones take their defaults.

    Raises:
        ValueError: in one sentence, if weights, device, runtime or precision is invalid or unavailable.
    """
    p = {**interface.defaults(), **values}
    return SuperPoint(**{name: p[name] for name in (*_CHOICES, *(field.name for field in fields(Extraction)))})


def settings_from_parameters(values: Mapping[str, Any]) -> FrontEndSettings:
    """Convert validated parameter values to settings; missing ones take their defaults."""
    p = {**interface.defaults(), **values}
    return FrontEndSettings(
        extraction={field.name: p[field.name] for field in fields(Extraction)},
        min_similarity=p["match.min_similarity"],
        ratio=p["match.ratio"],
        rotation=p["match.rotation"],
        method=p["homography.method"],
        threshold=p["homography.threshold"],
        min_inliers=p["homography.min_inliers"],
        align=p["homography.align"],
        max_gap=p["max_gap"],
        tracking=p["tracking"],
        window=p["match.window"],
        refine=p["match.refine"],
        coast=p["track.coast"],
        epipolar=p["epipolar.estimate"],
        epipolar_threshold=p["epipolar.threshold"],
    )
