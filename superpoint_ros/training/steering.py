"""Give a trained network's descriptors a basis in which they are steerable (see `two_view.steering`).

Descriptors at a point of an image and at the same point of the image turned by a quarter are related by nearly one
linear map, even if the network never saw such rotations (Bökman et al., 2024, Steerers). It is nearly orthogonal, and
nearly the identity if applied four times, so in another orthogonal basis it is nearly a shift of four blocks. That
basis merges with the last convolution: similarities of descriptors, and so matches of upright images, stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from superpoint_ros.extraction import decoding
from superpoint_ros.extraction.network import CELL, SuperPointNet
from superpoint_ros.two_view.steering import BLOCKS, check_steerable, steered_back

Matrix = NDArray[np.float64]
_LEAST_SINE = 1e-6


@dataclass(frozen=True)
class SteerConfig:
    """Settings of the change of basis.

    Attributes:
        images: number of training images, spread evenly over their names.
        longer_side: longer side of the images, in pixels (0: original size).
        max_points: maximum number of keypoints of an image.
    """

    images: int = 150
    longer_side: int = 480
    max_points: int = 300

    __pydantic_config__: ClassVar = {"extra": "forbid"}


@dataclass(frozen=True)
class Steering:
    """How well descriptors of images rotated by a quarter turn agree with those of the upright images.

    Attributes:
        points: number of points that were compared, each in four rotations.
        before: mean cosine similarity of the descriptors as they are.
        after: the same after steering back.
    """

    points: int
    before: float
    after: float


@torch.inference_mode()
def make_steerable(
    network: SuperPointNet, images: Iterable[NDArray[np.uint8]], max_points: int = 300
) -> tuple[SuperPointNet, Steering]:
    """Change the basis of a network's descriptors in place; return it with the agreement on these images.

    Args:
        images: (H, W) grey; a hundred are enough.
        max_points: number of keypoints used of each image.

    Raises:
        ValueError: if there are no keypoints, descriptors have no four equal blocks, or the last layer is normalised.
    """
    check_steerable(network.architecture.descriptor_size, "steering")
    if network.convDb.norm is not None:
        raise ValueError("the descriptors' last convolution is followed by normalisation, allowed is none")
    network.eval()
    tables = [_rotated_descriptors(network, image, max_points) for image in images]
    turns = torch.cat(tables, dim=1) if tables else torch.zeros(BLOCKS, 0, 0)
    if not turns.shape[1]:
        raise ValueError("the images have no keypoints, by which descriptors of their rotations could be compared")
    following = turns.roll(-1, dims=0)
    upright, turned = turns.flatten(0, 1).double().numpy(), following.flatten(0, 1).double().numpy()
    basis = torch.from_numpy(ordered(block_basis(turned.T @ upright / len(upright)), upright.T @ upright))
    layer = network.convDb.conv
    weight = torch.einsum("ij,jckl->ickl", basis, layer.weight.double())
    layer.weight.copy_(weight)
    layer.bias.copy_(basis @ layer.bias.double())  # type: ignore[union-attr]
    network.architecture = replace(network.architecture, ordered=True)
    first, second = (table.double() @ basis.T for table in (turns, following))
    back = steered_back(second, torch.full((BLOCKS,), 2))
    agreement = [float((first * other).sum(dim=2).mean()) for other in (second, back)]
    return network, Steering(turns.shape[1], *agreement)


def block_basis(covariance: Matrix) -> Matrix:
    """Find the orthogonal basis in which a quarter turn is best approximated by a shift of four blocks.

    Args:
        covariance: (D, D), mean product of the descriptors of turned images (rows) and upright ones (columns).

    Returns:
        (D, D), which maps descriptors to that basis.
    """
    size, quarter = len(covariance), len(covariance) // BLOCKS
    left, _, right = np.linalg.svd(covariance)
    turn = left @ right  # the nearest orthogonal map
    # The harmonics of a shift of four: what a turn leaves alone, what it reverses, and planes that it rotates.
    _, axes = np.linalg.eigh((turn + turn.T) / 2)  # by the cosine of the angle
    reversed_, middle, fixed = axes[:, :quarter], axes[:, quarter : size - quarter], axes[:, size - quarter :]
    cosine, sine = (middle @ axes for axes in _planes(middle.T @ (turn - turn.T) @ middle))
    angles = np.arange(BLOCKS) * np.pi / 2
    blocks = [
        (fixed + np.cos(2 * angle) * reversed_) / 2 + (np.cos(angle) * cosine + np.sin(angle) * sine) / np.sqrt(2)
        for angle in angles
    ]
    return np.concatenate(blocks, axis=1).T


def _planes(antisymmetric: Matrix) -> tuple[Matrix, Matrix]:
    """Find the planes in which an antisymmetric matrix (2 N, 2 N) rotates: two orthonormal axes of each, (2 N, N).

    Where it vanishes, planes are arbitrary, as for descriptors that have fewer dimensions than components.
    """
    values, vectors = np.linalg.eigh(1j * antisymmetric)
    chosen = vectors[:, values < -_LEAST_SINE] * np.sqrt(2)
    known = np.concatenate((chosen.imag, chosen.real), axis=1)
    rest = np.linalg.svd(known)[0][:, known.shape[1] :]
    half = rest.shape[1] // 2
    return np.concatenate((chosen.imag, rest[:, :half]), axis=1), np.concatenate((chosen.real, rest[:, half:]), axis=1)


def ordered(basis: Matrix, energy: Matrix) -> Matrix:
    """Order the components of four blocks, the same in each, so that the leading ones hold as much energy as possible.

    Args:
        basis: (D, D), which maps descriptors to blocks.
        energy: (D, D), mean or sum of the products of descriptors with themselves, before the change of basis.

    Returns:
        (D, D), which maps descriptors to the ordered blocks, with a turn of the axes in each.
    """
    blocks = basis.reshape(BLOCKS, -1, len(basis))
    _, axes = np.linalg.eigh(sum(block @ energy @ block.T for block in blocks))
    return np.concatenate([axes[:, ::-1].T @ block for block in blocks])


def _rotated_descriptors(network: SuperPointNet, image: NDArray[np.uint8], max_points: int) -> Tensor:
    """Sample the descriptors of an image's keypoints in its four rotations: (4, N, D)."""
    side = min(image.shape) // CELL * CELL
    square = image[:side, :side]
    batch = np.stack([np.rot90(square, -quarters) for quarters in range(BLOCKS)])[:, None]
    logits, descriptors = network(torch.from_numpy(batch).float() / 255)
    found, scores = decoding.select_peaks(decoding.heatmap(logits[:1]), decoding.Decoding(max_points))
    points = found[0][scores[0] > 0].float()
    places = [points]
    for _ in range(BLOCKS - 1):
        x, y = places[-1].unbind(dim=1)
        places.append(torch.stack((side - 1 - y, x), dim=1))  # clockwise
    return decoding.sample(descriptors, torch.stack(places))
