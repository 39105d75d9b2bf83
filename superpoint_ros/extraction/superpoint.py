"""SuperPoint from image to Features: the facade over weights, runtime and decoding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, overload

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from superpoint_ros.extraction import pyramid, runtimes, tiling
from superpoint_ros.extraction.checks import ImageError, check_image, checked_grey, checked_masks, is_out_of_memory
from superpoint_ros.extraction.clock import Clock, NoClock
from superpoint_ros.extraction.decoding import Decoding, decode_maps
from superpoint_ros.extraction.decoding_cpu import Buffers
from superpoint_ros.extraction.masks import masked_heat, padded_mask, stacked
from superpoint_ros.extraction.padded import PaddedFeatures, pad
from superpoint_ros.extraction.pyramid import MIN_SIDE, Level
from superpoint_ros.extraction.results import collect, select
from superpoint_ros.extraction.spread import CANDIDATES
from superpoint_ros.extraction.weights import load
from superpoint_ros.features import Features, Mask
from superpoint_ros.io.images import MAX_PIXELS

_MAX_BATCH = 16


@dataclass(frozen=True)
class Extraction(Decoding):
    """Settings of the feature extraction: arguments of `SuperPoint`, which says what they mean."""

    resize: int = 0
    levels: int = 1
    tile_pixels: int = 2_100_000  # Full HD in one piece, and less than a gigabyte in all
    max_pixels: int = MAX_PIXELS
    spread: bool = False
    scale_factor: float = pyramid.SCALE_FACTOR
    balance_levels: bool = False


class SuperPoint:
    """SuperPoint keypoint detector and descriptor (DeTone et al., 2018).

    Args:
        weights: name of known weights, or path of a file or folder (see `superpoint_ros.extraction.weights.load`).
        max_keypoints: maximum number of keypoints per image, the best by score.
        nms_radius: radius of non-maximum suppression, in pixels (Chebyshev distance, before refinement).
        detection_threshold: minimum probability of a keypoint.
        border: width of the image border without keypoints, in pixels.
        subpixel: refine keypoints to fractions of a pixel, on the heat map and then on the image's gradients.
        resize: longer side of the network's input, in pixels; 0 keeps the original size. Keypoints are in pixels of the
            original image; `nms_radius` and `border` count pixels of the resized one.
        levels: number of scales at which keypoints are detected: more than one matches views of different scales, for
            more computation (three levels: 1.75 times). `nms_radius` and `border` apply within a level, in its pixels.
        tile_pixels: maximum number of pixels processed at once (half as many in float32); larger images are processed
            in overlapping tiles, with the same features. That bounds the memory.
        max_pixels: maximum number of pixels of an image; larger ones are rejected.
        spread: choose keypoints that cover the whole image, from twice as many.
        scale_factor: ratio of the sides of a level to those of the next one, as in ORB. A larger one covers the same
            scales with fewer levels, which localise keypoints less precisely.
        balance_levels: choose as many keypoints of each level, instead of the best of all: more matches between views
            of very different scales, fewer between those of the same.
        descriptor_size: number of components of a descriptor, 0 for all: half or a quarter of them match nearly as
            well (see `superpoint_ros.extraction.shortening`).
        device: auto, cpu, cuda or cuda:N.
        runtime: auto, openvino, onnxruntime, pytorch, cuda_graph or cuda_graph_compiled.
        precision: auto, float32, bfloat16, float16 or int8. Coordinates are always float32.

    Raises:
        ValueError: in one sentence, if weights, device, runtime, precision or a setting is invalid or unavailable.
    """

    def __init__(
        self,
        weights: str | Path = "default",
        max_keypoints: int = 1000,
        nms_radius: int = 4,
        detection_threshold: float = 0.005,
        border: int = 4,
        device: str = "auto",
        runtime: str = "auto",
        precision: str = "auto",
        subpixel: bool = True,
        resize: int = 0,
        levels: int = 1,
        tile_pixels: int = Extraction.tile_pixels,
        max_pixels: int = Extraction.max_pixels,
        spread: bool = False,
        scale_factor: float = Extraction.scale_factor,
        balance_levels: bool = False,
        descriptor_size: int = 0,
    ) -> None:
        decoding = (max_keypoints, nms_radius, detection_threshold, border, subpixel)
        sizes = (resize, levels, tile_pixels, max_pixels)
        self.settings = Extraction(*decoding, *sizes, spread, scale_factor, balance_levels)
        _check(self.settings)
        self.weights = load(weights, descriptor_size)
        found = self.weights
        self.runtime = runtimes.create(found.network, device, runtime, precision, found.ranges)
        self._buffers = Buffers()

    @classmethod
    def from_pretrained(cls, path_or_name: str | Path, **options: Any) -> SuperPoint:
        """Load weights by name or path: this package's .safetensors, Magic Leap's .pth, rpautrat's .pth, or a folder
        of `transformers.SuperPointForKeypointDetection`. `options` are those of the constructor."""
        return cls(path_or_name, **options)

    @property
    def descriptor_size(self) -> int:
        """Return D, the number of components of a descriptor."""
        return self.weights.network.architecture.descriptor_size

    def configure(self, **changes: Any) -> None:
        """Change settings between two images, all or none of them.

        Raises:
            ValueError: if a value is out of range.
        """
        self.settings = self._with_changes(changes)

    def check(self, **changes: Any) -> None:
        """Raise what `configure` would raise, and change nothing."""
        self._with_changes(changes)

    def _with_changes(self, changes: dict[str, Any]) -> Extraction:
        settings = replace(self.settings, **changes)
        _check(settings)
        return settings

    def extract(self, image: NDArray[np.uint8], clock: Clock | None = None, mask: Mask | None = None) -> Features:
        """Extract the features of one (H, W) grey or (H, W, 3) BGR uint8 image of at least 16 x 16 pixels.

        `clock` measures the stages preprocess, network and decode features.

        Raises:
            ImageError: if the image has another type or shape, or more than `max_pixels`.
        """
        return self._extract_same_size([image], checked_masks([mask], [image]), clock or NoClock())[0]

    @overload
    def extract_batch(
        self,
        images: Sequence[NDArray[np.uint8]],
        padded: Literal[False] = False,
        clock: Clock | None = None,
        masks: Sequence[Mask | None] | None = None,
    ) -> list[Features]: ...

    @overload
    def extract_batch(
        self,
        images: Sequence[NDArray[np.uint8]],
        padded: Literal[True],
        clock: Clock | None = None,
        masks: Sequence[Mask | None] | None = None,
    ) -> PaddedFeatures: ...

    def extract_batch(
        self,
        images: Sequence[NDArray[np.uint8]],
        padded: bool = False,
        clock: Clock | None = None,
        masks: Sequence[Mask | None] | None = None,
    ) -> list[Features] | PaddedFeatures:
        """Extract the features of images of any sizes, in order; images of equal size share a forward pass.

        With `padded`, return them as padded tensors with a mask, on the network's device. `clock` measures the stages
        of every pass, see `extract`.

        Raises:
            ImageError: if `extract` would reject an image.
            ValueError: if the number of masks is not that of the images.
        """
        by_shape: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            check_image(image, self.settings.max_pixels)
            by_shape.setdefault(image.shape[:2], []).append(index)
        masks = checked_masks(masks, images)
        results: list[Features | None] = [None] * len(images)
        for shape, indices in by_shape.items():
            at_once = self._max_batch(shape)
            for start in range(0, len(indices), at_once):
                chunk = indices[start : start + at_once]
                alike = self._extract_same_size(
                    [images[i] for i in chunk], [masks[i] for i in chunk], clock or NoClock()
                )
                for index, found in zip(chunk, alike, strict=True):
                    results[index] = found
        found_all = [result for result in results if result is not None]
        return pad(found_all, self.descriptor_size, self.runtime.device) if padded else found_all

    def _max_pixels_at_once(self, settings: Extraction) -> int:
        """Return the maximum number of pixels of one forward pass."""
        return settings.tile_pixels // 2 if self.runtime.precision == "float32" else settings.tile_pixels

    def _max_batch(self, shape: tuple[int, int]) -> int:
        """Return how many images of (height, width) share a forward pass.

        On a CPU, which gains little from batches, memory is the limit.
        """
        if self.runtime.device.type != "cpu":
            return _MAX_BATCH
        height, width = pyramid.network_size(shape, self.settings.resize)
        return min(max(self._max_pixels_at_once(self.settings) // (height * width), 1), _MAX_BATCH)

    def _extract_same_size(
        self, images: Sequence[NDArray[np.uint8]], masks: Sequence[Mask | None], clock: Clock
    ) -> list[Features]:
        try:
            return self._extract_in_memory(images, masks, clock)
        except (MemoryError, RuntimeError, cv2.error) as error:
            if is_out_of_memory(error):
                height, width = images[0].shape[:2]
                raise ImageError(f"the image is {width}x{height} pixels, which do not fit in memory") from error
            raise

    def _extract_in_memory(
        self, images: Sequence[NDArray[np.uint8]], masks: Sequence[Mask | None], clock: Clock
    ) -> list[Features]:
        settings, wanted = self.settings, self.settings.max_keypoints
        masked = any(mask is not None for mask in masks)
        if settings.spread or masked:
            settings = replace(settings, max_keypoints=CANDIDATES * wanted)
        with clock.stage("preprocess"):
            greys = [checked_grey(image, settings.max_pixels) for image in images]
            levels = pyramid.levels(greys, settings.resize, settings.levels, settings.scale_factor)
            del greys  # large images take much memory
        originals = [(image.shape[0], image.shape[1]) for image in images]
        found = [
            self._extract_level(level, originals, masks, settings, clock, again=index > 0)
            for index, level in enumerate(levels)
        ]
        if len(found) == 1 and not settings.spread and not masked:
            return found[0]
        with clock.stage("decode features", again=True):
            return [
                select(per_level, mask, wanted, settings.spread, settings.balance_levels)
                for per_level, mask in zip(zip(*found, strict=True), masks, strict=True)
            ]

    def _extract_level(
        self,
        level: Level,
        originals: Sequence[tuple[int, int]],
        masks: Sequence[Mask | None],
        settings: Extraction,
        clock: Clock,
        again: bool,
    ) -> list[Features]:
        batch, size = level.images, level.size
        if size[0] * size[1] > self._max_pixels_at_once(settings):
            batches = self._tiled(batch, masks, size, settings, clock, again)
            return [
                one for found, whole in zip(batches, originals, strict=True) for one in collect(found, [whole], level)
            ]
        if isinstance(self.runtime, runtimes.EndToEndRuntime):
            with clock.stage("network", again):
                extracted = self.runtime.extract(batch, size, settings, stacked(masks, size))
            with clock.stage("decode features", again):
                return list(collect(extracted, originals, level))
        with clock.stage("network", again), torch.inference_mode():
            batch = batch.to(self.runtime.device)  # once, for the network and the refinement of keypoints
            heat, descriptors = self.runtime(batch)
        with clock.stage("decode features", again), torch.inference_mode():
            heat = masked_heat(heat, masks, size)
            decoded = decode_maps(heat, descriptors, batch, size, settings, self._buffers)
            on_device = decoded[2] if decoded[2].device.type != "cpu" else None
            keypoints, scores, sampled = (tensor.cpu().numpy() for tensor in decoded)
            extracted = runtimes.ExtractedBatch(keypoints, scores, sampled, on_device)
            return list(collect(extracted, originals, level))

    def _tiled(
        self,
        batch: Tensor,
        masks: Sequence[Mask | None],
        size: tuple[int, int],
        settings: Extraction,
        clock: Clock,
        again: bool,
    ) -> Iterable[runtimes.ExtractedBatch]:
        # The whole image is in memory next to its tiles.
        max_pixels = self._max_pixels_at_once(settings) * 9 // 10
        best = tiling.Tiling(max_pixels, self.descriptor_size, self._buffers)
        for index, (image, mask) in enumerate(zip(batch.split(1), masks, strict=True)):
            scaled = None if mask is None else padded_mask(mask, size, image)
            yield best.extract(self.runtime, image, size, settings, clock, again or index > 0, scaled)


def _check(settings: Extraction) -> None:
    limits = {"max_keypoints": 1, "nms_radius": 0, "detection_threshold": 0, "border": 0, "resize": 0, "levels": 1,
              "tile_pixels": 1, "max_pixels": 1}  # fmt: skip
    for name, least in limits.items():
        if not getattr(settings, name) >= least:
            raise ValueError(f"{name} is {getattr(settings, name)!r}, allowed is {least} or more")
    if not 1 < settings.scale_factor < float("inf"):
        raise ValueError(f"scale_factor is {settings.scale_factor!r}, allowed is a finite number above 1")
    if settings.resize and settings.resize < MIN_SIDE:
        raise ValueError(f"resize is {settings.resize}, allowed is 0 or at least {MIN_SIDE}")
