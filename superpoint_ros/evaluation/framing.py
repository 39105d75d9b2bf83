"""Scale and crop images to a protocol's size, and track the transformation of their pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.io.images import resize_image

Image = NDArray[np.uint8]
Matrix = NDArray[np.float64]

MIN_SIDE = 16


@dataclass(frozen=True)
class Framing:
    """The size at which images are evaluated; by default their original size.

    Attributes:
        crop: (height, width) that every image is scaled to cover and then centre-cropped to, as in the published
            evaluations (rpautrat's code; paper, section 7: 240 x 320 and 480 x 640).
        longer_side: longer side in pixels, without cropping.
    """

    crop: tuple[int, int] | None = None
    longer_side: int = 0

    @staticmethod
    def parse(text: str) -> Framing:
        """Parse `240x320` (height x width), `640` (longer side) or `native`.

        Raises:
            ValueError: if the text has another form or a side is below 16 pixels.
        """
        if text == "native":
            return Framing()
        found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
        sides = [int(side) for side in found.groups() if side] if found else []
        if not sides or min(sides) < MIN_SIDE:
            raise ValueError(
                f"size '{text}' is not allowed, it must be HEIGHTxWIDTH such as 240x320, the longer side such as 640, "
                f"or native, with sides of at least {MIN_SIDE}"
            )
        return Framing(crop=(sides[0], sides[1])) if len(sides) == 2 else Framing(longer_side=sides[0])

    def __str__(self) -> str:
        if self.crop:
            return f"{self.crop[0]}x{self.crop[1]}"
        return str(self.longer_side) if self.longer_side else "native"

    def apply(self, image: Image) -> tuple[Image, Matrix]:
        """Bring an (H, W) image to this size; return it and the (3, 3) map from original pixels to its pixels.

        Ground truth must be transformed accordingly: H of the framed pair is `second_map @ H @ inv(first_map)`.
        """
        height, width = image.shape
        if self.crop:
            factor = max(self.crop[0] / height, self.crop[1] / width)
            size = max(self.crop[0], round(height * factor)), max(self.crop[1], round(width * factor))
        elif self.longer_side:
            factor = self.longer_side / max(height, width)
            size = max(MIN_SIDE, round(height * factor)), max(MIN_SIDE, round(width * factor))
        else:
            return image, np.eye(3)
        matrix = scaling_matrix((height, width), size)
        image = resize_image(image, size)
        if self.crop:
            top, left = ((size[k] - self.crop[k]) // 2 for k in (0, 1))
            image = np.ascontiguousarray(image[top : top + self.crop[0], left : left + self.crop[1]])
            matrix = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], float) @ matrix
        return image, matrix


def scaling_matrix(before: tuple[int, int], after: tuple[int, int]) -> Matrix:
    """Return the (3, 3) pixel map of a resize between (height, width) sizes, with pixel centres at whole numbers."""
    x, y = after[1] / before[1], after[0] / before[0]
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])
