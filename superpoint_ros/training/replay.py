"""Pairs of earlier steps that later ones learn from again, with what a frozen part of the network made of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


class Replay:
    """Says where the pairs of a step are kept, and which others it learns from; the oldest are overwritten.

    Args:
        pairs: number of earlier pairs for each step.
        capacity: number of pairs to keep.
        seed: of the choice, which is random.
    """

    def __init__(self, pairs: int, capacity: int, seed: int) -> None:
        self.capacity = capacity
        self._pairs, self._seen, self._rng = pairs, 0, np.random.default_rng(seed)

    def places(self, count: int) -> Tensor:
        """Return the places of `count` new pairs, and those of the earlier ones; there are none in the first step."""
        own = torch.arange(self._seen, self._seen + count) % self.capacity
        kept = min(self._seen, self.capacity)
        self._seen += count
        if not kept:
            return own
        return torch.cat((own, torch.from_numpy(self._rng.integers(kept, size=self._pairs))))


class Memory:
    """Tensors of a fixed number of rows, which are allocated when the first values come."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._rows: dict[str, Tensor] = {}

    def exchange(self, values: Mapping[str, Tensor], places: Tensor) -> dict[str, Tensor]:
        """Keep values (B, ...) at the first B of (N,) places; return those of all places, (N, ...)."""
        result = {}
        for name, value in values.items():
            if name not in self._rows:
                self._rows[name] = value.new_zeros(self._capacity, *value.shape[1:])
            rows, where = self._rows[name], places.to(value.device)
            rows[where[: len(value)]] = value
            result[name] = rows[where]
        return result
