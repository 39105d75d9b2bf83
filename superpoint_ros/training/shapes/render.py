"""Render Synthetic Shapes on the training device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from superpoint_ros.training.shapes.scene import Points, Scene


def render(scenes: Sequence[Scene], size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Render scenes to (B, 1, height, width) float images in 0..1, on the generator's device.

    Tiles are blended by their coverage of each pixel, so that edges agree with the labelled corners.
    """
    device = generator.device
    x, y = (torch.arange(side, device=device, dtype=torch.float32) for side in size[::-1])
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).view(-1, 2)
    pixels = torch.cat((grid, torch.ones_like(grid[:, :1])), dim=1).T
    images = torch.stack([_render_scene(scene, pixels, size) for scene in scenes])
    noise = torch.tensor([scene.noise for scene in scenes], device=device).view(-1, 1, 1, 1)
    if bool((noise > 0).any()):
        images = images + noise * torch.randn(images.shape, device=device, generator=generator)
    return images.clamp(0, 1)


def labels(scenes: Sequence[Scene], count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the corners of scenes as (B, count, 2) float, and (B, count) bool, which entries are used."""
    points, used = np.zeros((len(scenes), count, 2), np.float32), np.zeros((len(scenes), count), bool)
    for i, scene in enumerate(scenes):
        corners = scene.corners[:count]
        points[i, : len(corners)], used[i, : len(corners)] = corners, True
    return torch.from_numpy(points).to(device), torch.from_numpy(used).to(device)


def _render_scene(scene: Scene, pixels: Tensor, size: tuple[int, int]) -> Tensor:
    device = pixels.device
    background = torch.from_numpy(scene.background).float().to(device)[None, None]
    image = F.interpolate(background, size, mode="bicubic", align_corners=True)[0]
    if not scene.layers:
        return image
    tiles = [tile for layer in scene.layers for tile in layer.tiles]
    most = max(len(tile) for tile in tiles)
    planes = torch.from_numpy(np.stack([_half_planes(tile, most) for tile in tiles])).to(device)
    depth = (planes @ pixels).amin(dim=1)
    covered = (depth + 0.5).clamp(0, 1)
    greys = torch.tensor([grey for layer in scene.layers for grey in layer.greys], device=device)
    owner = torch.tensor([i for i, layer in enumerate(scene.layers) for _ in layer.tiles], device=device)
    count = len(scene.layers)
    empty = torch.zeros(count, pixels.shape[1], device=device)
    total = empty.index_add(0, owner, covered)
    colour = empty.index_add(0, owner, covered * greys[:, None]) / total.clamp_min(1e-6)
    total = total.clamp(max=1.0)
    flat = image.view(-1)
    for i in range(count):
        flat = torch.lerp(flat, colour[i], total[i])
    return flat.view(1, *size)


def _half_planes(tile: Points, count: int) -> NDArray[np.float32]:
    """Convert a convex polygon to (count, 3) half-planes: signed distances in pixels of (x, y, 1) inside each edge."""
    along = np.roll(tile, -1, axis=0) - tile
    normal = np.column_stack((-along[:, 1], along[:, 0])) / np.maximum(np.linalg.norm(along, axis=1), 1e-9)[:, None]
    shift = -(normal * tile).sum(axis=1, keepdims=True)
    # The sign follows from the orientation of the polygon, clockwise or not.
    sign = np.sign((tile.mean(axis=0) @ normal.T + shift[:, 0]).sum()) or 1.0
    planes = np.hstack((normal, shift)) * sign
    return planes[np.minimum(np.arange(count), len(tile) - 1)].astype(np.float32)


def preview(seed: int = 0, columns: int = 6, zoom: int = 2, size: tuple[int, int] = (120, 160)) -> NDArray[np.uint8]:
    """Draw examples of every class, one row each, in BGR with the labels as green circles."""
    import cv2

    from superpoint_ros.training.shapes.classes import CLASSES, random_scene

    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    rows = []
    for name in CLASSES:
        scenes = [random_scene(rng, size, name) for _ in range(columns)]
        tiles = []
        for scene, image in zip(scenes, render(scenes, size, generator), strict=True):
            grey = (image[0] * 255).round().byte().numpy()
            tile = cv2.cvtColor(cv2.resize(grey, None, fx=zoom, fy=zoom), cv2.COLOR_GRAY2BGR)
            for x, y in np.round((scene.corners + 0.5) * zoom - 0.5).astype(int).tolist():
                cv2.circle(tile, (x, y), 4, (0, 255, 0), 1, cv2.LINE_AA)
            tiles.append(tile)
        rows.append(np.hstack(tiles))
    return np.asarray(np.vstack(rows), np.uint8)
