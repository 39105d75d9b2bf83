"""Summarise odometry: errors per step, and trajectory errors by the `evo` library."""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.evaluation.metrics import area_under_curve
from superpoint_ros.evaluation.odometry import Odometry, Step, Track
from superpoint_ros.evaluation.pose_files import Poses
from superpoint_ros.two_view.motion import MotionStatus

AUC_LIMITS = (5, 10, 20)
"""Thresholds in degrees of the AUC of the pose error."""

Values = dict[str, float]


@dataclass(frozen=True)
class Summary:
    """Summary of one method.

    Attributes:
        values: metrics by name; NaN where undefined, infinite if most steps failed.
        aligned: (N, 3) estimated positions after the alignment of the trajectory error, in metres.
    """

    method: str
    values: Values
    aligned: NDArray[np.float64]


def check_installed() -> None:
    """Check that the summary can be computed, before the evaluation starts.

    Raises:
        ValueError: if `evo` is not installed.
    """
    _evo()


def summarise(odometry: Odometry) -> list[Summary]:
    """Summarise every method.

    Raises:
        ValueError: if `evo` is not installed.
    """
    return [_summary(track, odometry) for track in odometry.tracks]


def _summary(track: Track, odometry: Odometry) -> Summary:
    trajectory, aligned = trajectory_errors(track.poses, odometry.sequence.poses, odometry.settings.delta)
    counts = {
        "steps": float(len(track.steps)),
        "moving_steps": float(sum(not np.isnan(step.direction_error) for step in track.steps)),
        "failed": float(sum(step.status == MotionStatus.FAILED.value for step in track.steps)),
        "rotation_only": float(sum(step.status == MotionStatus.ROTATION_ONLY.value for step in track.steps)),
        "matches": float(np.median([step.matches for step in track.steps])),
        "inliers": float(np.median([step.inliers for step in track.steps])),
        "accuracy": _mean(np.array([step.accuracy for step in track.steps])),
        "match_error": _mean(np.array([step.match_error for step in track.steps])),
    }
    if not counts["moving_steps"]:
        # The trajectory of a hovering camera is meaningless: its motion is within the noise of the ground truth.
        trajectory |= {name: float("nan") for name in ("rpe_translation", "ate", "ate_percent")}
    return Summary(track.method, {**step_errors(track.steps), **trajectory, **counts}, aligned)


def step_errors(steps: Several[Step]) -> Values:
    """Summarise the errors of steps, in degrees.

    Medians and AUC count a failed step as an infinite error; means exclude it. The AUC is of the maximum of rotation
    and direction error, over the steps with a true direction.
    """
    rotation = np.array([step.rotation_error for step in steps])
    moving = np.array([not np.isnan(step.direction_error) for step in steps], bool)
    direction = np.array([step.direction_error for step in steps])[moving]
    pose = np.maximum(rotation[moving], direction)
    return {
        "rotation_median": _median(rotation),
        "rotation_mean": _mean(rotation),
        "direction_median": _median(direction),
        "direction_mean": _mean(direction),
        **{f"auc_{limit}": area_under_curve(pose, limit) for limit in AUC_LIMITS},
    }


def trajectory_errors(estimated: Poses, true: Poses, delta: int) -> tuple[Values, NDArray[np.float64]]:
    """Compute relative pose error over `delta` frames and absolute trajectory error, with `evo`.

    The trajectory is aligned by a similarity (Sim(3); Umeyama, 1991) for the absolute error only. All are root mean
    squares.

    Args:
        estimated, true: (N, 4, 4) poses, camera to world.

    Returns:
        `rpe_translation` in metres and `rpe_rotation` in degrees, `ate` in metres and `ate_percent` of the true path's
        length; NaN where undefined, as for a stationary camera; and (N, 3) aligned positions.

    Raises:
        ValueError: if `evo` is not installed.
    """
    evo, evo_metrics, path = _evo()
    reference, estimate, shifted = (path(poses_se3=list(poses)) for poses in (true, estimated, estimated))
    pairs = min(delta, len(true) - 1)
    relation = evo_metrics.PoseRelation
    values = {}
    for name, part in (("translation", relation.translation_part), ("rotation", relation.rotation_angle_deg)):
        error = evo_metrics.RPE(part, delta=pairs, delta_unit=evo_metrics.Unit.frames, all_pairs=True)
        error.process_data((reference, estimate))
        values[f"rpe_{name}"] = float(error.get_statistic(evo_metrics.StatisticsType.rmse))
    try:
        shifted.align(reference, correct_scale=True)
        error = evo_metrics.APE(relation.translation_part)
        error.process_data((reference, shifted))
        ate = float(error.get_statistic(evo_metrics.StatisticsType.rmse))
    except evo.EvoException:  # the positions are one point or lie on a line
        shifted, ate = estimate, float("nan")
    length = float(reference.path_length)
    values |= {"ate": ate, "ate_percent": 100 * ate / length if length > 0 else float("nan"), "path": length}
    return values, np.asarray(shifted.positions_xyz)


def align(estimated: Poses, true: Poses) -> tuple[Poses, float]:
    """Align (N, 4, 4) poses to the true ones by a similarity of their positions; return them and its scale."""
    evo, _, path = _evo()
    reference, shifted = (path(poses_se3=list(poses)) for poses in (true, estimated))
    try:
        _, _, scale = shifted.align(reference, correct_scale=True)
    except evo.EvoException:  # the positions are one point or lie on a line
        return estimated, float("nan")
    return np.array(shifted.poses_se3), float(scale)


def drift(estimated: Poses, true: Poses, length: float) -> tuple[float, float]:
    """Compute the mean error of all parts of a path of this length in metres, with `evo`.

    Args:
        estimated, true: (N, 4, 4) poses in the same unit.

    Returns:
        Translation in percent of the length and rotation in degrees per metre; NaN if the path is shorter.
    """
    evo, evo_metrics, path = _evo()
    reference, estimate = (path(poses_se3=list(poses)) for poses in (true, estimated))
    relation, found = evo_metrics.PoseRelation, []
    for part, unit in ((relation.translation_part, 100 / length), (relation.rotation_angle_deg, 1 / length)):
        error = evo_metrics.RPE(part, delta=length, delta_unit=evo_metrics.Unit.meters, all_pairs=True)
        try:
            error.process_data((reference, estimate))
        except evo.EvoException:
            return float("nan"), float("nan")
        found.append(float(error.get_statistic(evo_metrics.StatisticsType.mean)) * unit)
    return found[0], found[1]


def _evo() -> tuple[Any, Any, Any]:
    try:
        import evo
        from evo.core import metrics
        from evo.core.trajectory import PosePath3D
    except ModuleNotFoundError as error:
        raise ValueError(
            f"Python package '{error.name}' is missing, install it with: pip install 'superpoint_ros[evaluate]'"
        ) from error
    return evo, metrics, PosePath3D


def _median(errors: NDArray[np.float64]) -> float:
    # With an even number of values, one infinite middle value makes the median infinite.
    return float(np.median(errors)) if len(errors) else float("nan")


def _mean(errors: NDArray[np.float64]) -> float:
    found = errors[np.isfinite(errors)]
    return float(found.mean()) if len(found) else float("nan")
