"""The training loop that every stage shares: mixed precision, checkpoints, resumption; Lightning Fabric carries it."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopConfig:
    """Settings of a training loop.

    Attributes:
        steps: optimiser steps of the whole run.
        batch: samples a step.
        learning_rate: greatest rate, reached after `warmup` steps and then lowered to zero along a cosine.
        weight_decay: of AdamW.
        clip: greatest gradient norm.
        seed: of weights and data.
        precision: as Lightning names it.
        accelerator: cpu, cuda or auto.
        workers: processes that make samples.
        checkpoint_seconds: longest time between checkpoints.
    """

    steps: int
    batch: int
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 1e-4
    clip: float = 5.0
    seed: int = 0
    precision: str = "bf16-mixed"
    accelerator: str = "auto"
    workers: int = 1
    checkpoint_seconds: float = 120.0


def rate(step: int, config: LoopConfig) -> float:
    """Learning rate of a step: linear warm-up, then half a cosine down to zero."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return config.learning_rate * (1 + math.cos(math.pi * min(done, 1.0))) / 2


def run(
    objective: nn.Module,
    dataset: Callable[[int], IterableDataset],
    config: LoopConfig,
    checkpoint: Path,
    keep_going: Callable[[], bool] = lambda: True,
) -> int:
    """Train until `config.steps`, going on from `checkpoint` where it exists; Ctrl-C saves and stops.

    Args:
        objective: maps a batch to a dict of losses, of which "loss" is minimised.
        dataset: makes the data from the step at which the run starts, so that a resumed run sees new samples.
        checkpoint: file, replaced whole so that an interruption never leaves half of one.
        keep_going: asked after every step; False saves and stops early.

    Returns:
        The step reached.
    """
    fabric = Fabric(accelerator=config.accelerator, devices=1, precision=config.precision)  # type: ignore[arg-type]
    fabric.seed_everything(config.seed, verbose=False)
    objective = objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(objective.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    model, optimizer = fabric.setup(objective, optimizer)
    state: dict[str, Any] = {"model": model, "optimizer": optimizer, "step": 0, "skipped": 0}
    if checkpoint.exists():
        fabric.load(checkpoint, state)
    step = state["step"]
    if step >= config.steps:
        return step
    loader = DataLoader(
        dataset(step),
        batch_size=config.batch,
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
        # A forked worker hangs where the parent's OpenCV has threads already.
        multiprocessing_context="spawn" if config.workers else None,
    )
    saved = time.monotonic()
    model.train()
    bar = tqdm(total=config.steps, initial=step, unit="step", mininterval=5)
    try:
        for batch in fabric.setup_dataloaders(loader):
            for group in optimizer.param_groups:
                group["lr"] = rate(step, config)
            losses = model(batch)
            optimizer.zero_grad(set_to_none=True)
            fabric.backward(losses["loss"])
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            if bool(torch.isfinite(losses["loss"].detach()) & torch.isfinite(norm)):
                optimizer.step()
            else:
                state["skipped"] += 1
                _log.warning("step %d gave a loss or gradient that is not finite and was skipped", step)
            step += 1
            bar.update()
            if step % 20 == 0:
                bar.set_postfix({name: f"{value.item():.3f}" for name, value in losses.items()}, refresh=False)
            if time.monotonic() - saved > config.checkpoint_seconds:
                _save(fabric, checkpoint, state, step)
                saved = time.monotonic()
            if step >= config.steps or not keep_going():
                break
    except KeyboardInterrupt:
        _log.warning("stopped at step %d of %d", step, config.steps)
        raise
    finally:
        bar.close()
        _save(fabric, checkpoint, state, step)
    return step


def _save(fabric: Fabric, checkpoint: Path, state: dict[str, Any], step: int) -> None:
    state["step"] = step
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    partial = checkpoint.with_suffix(".partial")
    fabric.save(partial, state)
    os.replace(partial, checkpoint)
