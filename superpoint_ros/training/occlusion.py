"""Put a part of another image in front of the views of a pair."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from superpoint_ros.training.motion import Foreground
from superpoint_ros.training.views import inside, project, warp


def compose(
    images: Tensor, points: Tensor, valid: Tensor, batch: Mapping[str, Tensor], front: Foreground, oversample: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Put a part of the first view of the batch's next pair in front of both views of each pair, where one is shown.

    Args:
        images, points, valid: (B, 2, 1, H, W), (B, 2, P, 2) and (B, 2, P), views and labels of the pairs.
        batch: with `sources` and `to_source`, see `data.ViewsDataset`.
        oversample: see `views.warp`.

    Returns:
        images (2 B, 1, H, W), points (2 B, 2 P, 2) and valid (2 B, 2 P): the labels of the foreground, and those behind
        it, of which hidden ones are not valid.
    """
    size = (images.shape[-2], images.shape[-1])
    behind, before = images.unbind(dim=1), images[:, 0].roll(-1, dims=0)
    near = before.clone()
    some = front.shown.nonzero().flatten()  # the others would be rendered in vain
    maps = (batch["to_source"][:, 0].roll(-1, dims=0) @ torch.linalg.inv(front.to_second.double()))[some]
    near[some] = warp(batch["sources"].roll(-1, dims=0)[some].float() / 255, maps.float(), size, oversample)
    grid = _pixels(size, images)
    covers = (front.coverage, front.coverage_in_second)
    alphas = (cover(grid.expand(len(images), -1, -1)).view_as(near) for cover in covers)
    composed = torch.stack(
        [torch.lerp(one, other, alpha) for one, other, alpha in zip(behind, (before, near), alphas, strict=True)], dim=1
    )
    own = points[:, 0].roll(-1, dims=0)
    shown = batch["labelled"].roll(-1, dims=0) & (front.coverage(own) > 0.5)
    hidden = torch.stack([cover(points[:, view]) > 0.5 for view, cover in enumerate(covers)], dim=1)
    in_front = torch.stack((own, project(front.to_second, own)), dim=1)
    places = torch.cat((in_front, points), dim=2)  # the foreground's come first, since they are few
    used = torch.cat((shown[:, None] & inside(in_front, size), valid & ~hidden), dim=2)
    return composed.flatten(0, 1), places.flatten(0, 1), used.flatten(0, 1)


def _pixels(size: tuple[int, int], like: Tensor) -> Tensor:
    y, x = (torch.arange(side, device=like.device, dtype=torch.float32) for side in size)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).view(1, -1, 2)
