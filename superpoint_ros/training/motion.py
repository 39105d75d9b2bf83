"""How points move between the two views of a pair: by a homography, and otherwise where a foreground is in front."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from superpoint_ros.training.homographies import HomographyRange, random_homographies
from superpoint_ros.training.views import inside, project

PAIR_KEYS = (
    "to_source",
    "foreground_shown",
    "foreground_centre",
    "foreground_radius",
    "foreground_lobes",
    "foreground_motion",
)
"""What of a batch says how the points of its pairs move, see `motion_of`."""
_LOBES = (2, 3, 4)
_AMPLITUDE = 0.15


@dataclass(frozen=True, eq=False)
class Foreground:
    """Parts of other images in front of the first views of pairs, with outlines of a few lobes.

    Attributes:
        shown: (B,) bool, which pairs have one.
        centre: (B, 2) pixels of the first view.
        radius: (B,) mean radius in pixels.
        lobes: (B, 3, 2), cosine and sine amplitudes of the outline's harmonics 2 to 4, relative to the radius.
        to_second: (B, 3, 3) homographies of the foreground from the first views to the second ones.
    """

    shown: Tensor
    centre: Tensor
    radius: Tensor
    lobes: Tensor
    to_second: Tensor

    def coverage(self, points: Tensor) -> Tensor:
        """Compute how much of the pixels at (B, N, 2) points of the first views is foreground: (B, N) in 0..1."""
        x, y = (points - self.centre[:, None]).unbind(dim=2)
        angle = torch.atan2(y, x)[..., None] * torch.tensor(_LOBES, device=points.device)
        waves = angle.cos() * self.lobes[:, None, :, 0] + angle.sin() * self.lobes[:, None, :, 1]
        outline = self.radius[:, None] * (1 + waves.sum(dim=2))
        return (outline - torch.hypot(x, y) + 0.5).clamp(0, 1) * self.shown[:, None]

    def coverage_in_second(self, points: Tensor) -> Tensor:
        """Compute the same at points of the second views."""
        return self.coverage(project(torch.linalg.inv(self.to_second), points))


@dataclass(frozen=True, eq=False)
class Motion:
    """Where points of one view of each pair lie in the other.

    Attributes:
        first_to_second: (B, 3, 3) homographies from pixels of the first views to those of the second.
        foreground: what is in front and moves otherwise.
    """

    first_to_second: Tensor
    foreground: Foreground | None = None

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Move (B, N, 2) points of the first views to the second ones; (B, N) bool tells which are not hidden there."""
        return self._move(points, backward=False)

    def backward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Move points of the second views to the first ones, see `forward`."""
        return self._move(points, backward=True)

    def _move(self, points: Tensor, backward: bool) -> tuple[Tensor, Tensor]:
        maps, front = self.first_to_second, self.foreground
        moved = project(torch.linalg.inv(maps) if backward else maps, points)
        if front is None:
            return moved, torch.ones_like(moved[..., 0], dtype=torch.bool)
        here, there = front.coverage, front.coverage_in_second
        if backward:
            here, there = there, here
        covered = here(points.detach()) > 0.5
        in_front = project(torch.linalg.inv(front.to_second) if backward else front.to_second, points)
        moved = torch.where(covered[..., None], in_front, moved)
        return moved, covered | (there(moved.detach()) <= 0.5)


def draw_foreground(
    rng: np.random.Generator, count: int, size: tuple[int, int], share: float, ranges: HomographyRange
) -> dict[str, Tensor]:
    """Draw the foregrounds of a batch of pairs with views of (height, width) `size`, for `motion_of`.

    They cover about a fifth of the view, and move as the background does, after a homography within `ranges` or its
    inverse: they recede or approach.

    Args:
        share: fraction of the pairs that have one.
    """
    motion = random_homographies(rng, [size] * count, size, ranges)
    approaching = rng.uniform(size=count) < 0.5
    motion[approaching] = np.linalg.inv(motion[approaching])
    drawn: dict[str, NDArray[np.float64]] = {
        "centre": rng.uniform(0.25, 0.75, (count, 2)) * (np.array(size[::-1]) - 1),
        "radius": rng.uniform(0.15, 0.35, count) * min(size),
        "lobes": rng.uniform(-_AMPLITUDE, _AMPLITUDE, (count, len(_LOBES), 2)),
        "motion": motion,
    }
    found = {f"foreground_{name}": torch.from_numpy(values).float() for name, values in drawn.items()}
    return {**found, "foreground_shown": torch.from_numpy(rng.uniform(size=count) < share)}


def motion_of(batch: Mapping[str, Tensor]) -> Motion:
    """Build the motion of a batch of pairs, see `data.PairsDataset`."""
    maps = batch["to_source"]
    first_to_second = (torch.linalg.inv(maps[:, 1]) @ maps[:, 0]).float()
    if "foreground_shown" not in batch:
        return Motion(first_to_second)
    own = {name: batch[f"foreground_{name}"] for name in ("shown", "centre", "radius", "lobes")}
    return Motion(first_to_second, Foreground(**own, to_second=first_to_second @ batch["foreground_motion"]))


def correspondences(
    labels: Tensor,
    valid: Tensor,
    motion: Motion,
    size: tuple[int, int],
    count: int,
    generator: torch.Generator,
    most: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sample points that both views of each pair show: at most `most` of them at labels, the rest anywhere.

    Args:
        labels: (B, P, 2) pixels in the first views, in random order.
        valid: (B, P) bool, which of them are labels inside the view.
        motion: between the views.
        size: (height, width) of the views.

    Returns:
        first (B, count, 2), second (B, count, 2), and (B, count) bool, which entries are valid.
    """
    batch, device = len(labels), labels.device
    limits = torch.tensor([size[1] - 1, size[0] - 1], device=device, dtype=torch.float32)
    anywhere = torch.rand(batch, 4 * count, 2, device=device, generator=generator) * limits
    first = torch.cat((labels, anywhere), dim=1)
    second, visible = motion.forward(first)
    visible &= inside(second, size)
    at_labels = valid & visible[:, : labels.shape[1]]
    at_labels &= at_labels.cumsum(dim=1) <= most
    usable = torch.cat((at_labels, visible[:, labels.shape[1] :]), dim=1)
    order = torch.argsort((~usable).byte(), dim=1, stable=True)[:, :count]
    pick = order.unsqueeze(-1).expand(-1, -1, 2)
    used = usable.gather(1, order)
    return first.gather(1, pick), torch.where(used.unsqueeze(-1), second.gather(1, pick), 0.0), used
