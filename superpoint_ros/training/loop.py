"""The training loop that all stages share, on Lightning Fabric: precision, processes, checkpoints, resumption."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from superpoint_ros.training import convolution, networks
from superpoint_ros.training.average import Average
from superpoint_ros.training.interruption import save, stoppable
from superpoint_ros.training.objectives import Objective

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_log = logging.getLogger(__name__)
_MAX_CONSECUTIVE_SKIPS = 50


class DivergenceError(ValueError):
    """Gradients were not finite for many steps in a row; the message is one sentence for the user."""


@dataclass(frozen=True)
class Optimisation:
    """Settings of the optimiser.

    Attributes:
        steps: optimiser steps of the whole run.
        batch: images per step and process.
        learning_rate: peak learning rate, reached after `warmup` steps.
        decay: fraction of the run, at its end, over which the rate decays to zero along a cosine.
        weight_decay: of AdamW.
        clip: maximum gradient norm.
        average: decay of the exponential moving average of the weights, which is then what the run gives (see
            `average.Average`); 0 for none.
    """

    steps: int = 10_000
    batch: int = 8
    learning_rate: float = 1e-3
    warmup: int = 100
    decay: float = 0.5
    weight_decay: float = 1e-4
    clip: float = 5.0
    average: float = 0.0


@dataclass(frozen=True)
class Execution:
    """How a run is executed: the settings that all stages of a recipe may share.

    Attributes:
        seed: of weights and data.
        precision: Lightning's name: 32-true, bf16-mixed, 16-mixed ... A processor without instructions for
            bfloat16 computes bf16-mixed in float32, which takes it a tenth of the time.
        accelerator, devices, nodes, strategy: as in Lightning; ddp for several devices.
        workers: number of data loader processes; 0 loads in the training process.
    """

    seed: int = 0
    precision: str = "bf16-mixed"
    accelerator: str = "auto"
    devices: int | str = 1
    nodes: int = 1
    strategy: str = "auto"
    workers: int = 0


@dataclass(frozen=True)
class LoopConfig(Execution, Optimisation):  # fields of the last base come first
    """Settings of a training loop.

    Attributes:
        checkpoint_seconds: maximum time between checkpoints.
        log_every: steps between logged scalars.
            picture_every: steps between logged images.
        measure_every: steps between measurements on development images, 0 for none.
    """

    checkpoint_seconds: float = 120.0
    log_every: int = 20
    picture_every: int = 500
    measure_every: int = 0

    __pydantic_config__: ClassVar = {"extra": "forbid"}


class Monitor(Protocol):
    """Receives scalars and images of a run, in the first process only."""

    def scalars(self, step: int, values: dict[str, float]) -> None: ...

    def image(self, step: int, objective: Objective, batch: dict[str, Tensor]) -> None: ...


Measure = Callable[[int, nn.Module], None]
"""What is done with the module every `measure_every` steps, in the first process only."""


def launch(config: Execution) -> Fabric:
    """Start the processes of a run: one, or several under torchrun or as `devices` says."""
    from lightning.fabric import Fabric  # takes seconds to import; settings and previews do not need it

    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)

    def fabric(precision: str) -> Fabric:
        return Fabric(
            accelerator=config.accelerator,
            devices=config.devices,
            num_nodes=config.nodes,
            strategy=config.strategy,
            precision=precision,  # type: ignore[arg-type]
        )

    result = fabric(config.precision)
    if config.precision == "bf16-mixed" and not networks.native_bfloat16(result.device):
        _log.warning("this processor has no instructions for bfloat16, so precision bf16-mixed is float32 here")
        result = fabric("32-true")
    result.launch()
    return result


def scheduled_rate(step: int, config: LoopConfig) -> float:
    """Return the learning rate of a step: linear warm-up, constant, then cosine decay to zero."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    start = max(config.steps * (1 - config.decay), config.warmup)
    progress = max(step - start, 0) / max(config.steps - start, 1)
    return config.learning_rate * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def run(
    objective: Objective,
    dataset: Callable[[int, int], Dataset[dict[str, Tensor]]],
    config: LoopConfig,
    checkpoint: Path,
    monitor: Monitor | None = None,
    extras: dict[str, Any] | None = None,
    measure: Measure | None = None,
) -> int:
    """Train until `config.steps`, resuming from `checkpoint` if it exists.

    Ctrl-C and SIGTERM save a checkpoint and stop; a crash loses at most `config.checkpoint_seconds` of work.

    Args:
        objective: the module to train, and its losses.
        dataset: maps rank and number of processes to a dataset of batches, indexed by step.
        checkpoint: file, replaced atomically.
        extras: plain values to store in the checkpoint.
        measure: called with the step and the module, or the average of its weights where there is one.

    Returns:
        The step reached.

    Raises:
        DivergenceError: if gradients are not finite many times in a row.
    """
    fabric = launch(config)
    module = objective.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if fabric.device.type == "cpu" and convolution.worthwhile():
        convolution.quicken(module)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
    model, optimizer = fabric.setup(module, optimizer)
    state: dict[str, Any] = {"model": model, "optimizer": optimizer, "step": 0, "skipped": 0, "extras": extras or {}}
    average = Average(module, config.average) if config.average else None
    if average:
        state["average"] = average.module
    if checkpoint.exists():
        fabric.load(checkpoint, state)
    step = int(state["step"])
    if step >= config.steps:
        return step
    loader = DataLoader(
        dataset(fabric.global_rank, fabric.world_size),
        batch_size=None,
        sampler=range(step, config.steps),
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
        # A forked worker hangs if OpenCV has already started threads in the parent.
        multiprocessing_context="spawn" if config.workers else None,
        pin_memory=fabric.device.type == "cuda",
    )
    watch = monitor if fabric.is_global_zero else None
    bar = tqdm(total=config.steps, initial=step, unit="step", mininterval=5, disable=not fabric.is_global_zero)
    saved, consecutive_skips = time.monotonic(), 0
    model.train()
    with stoppable() as stopped:
        try:
            for loaded in loader:
                batch = _to_device(loaded, fabric.device)
                losses = _step(fabric, objective, model, optimizer, batch, scheduled_rate(step, config), config.clip)
                if losses is None:
                    state["skipped"] += 1
                    consecutive_skips += 1
                    _log.warning("skipped step %d: its gradients are not finite", step)
                    if consecutive_skips >= _MAX_CONSECUTIVE_SKIPS:
                        raise DivergenceError(
                            f"training diverged: the gradients of {consecutive_skips} consecutive steps to step {step} "
                            "are not finite; a lower learning_rate may help"
                        )
                else:
                    consecutive_skips = 0
                    if average:
                        average.follow(module, step)
                step += 1
                bar.update()
                if losses and step % config.log_every == 0:
                    values = {name: float(value.detach()) for name, value in losses.items()}
                    bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()}, refresh=False)
                    if watch:
                        watch.scalars(step, {**values, "learning_rate": scheduled_rate(step - 1, config)})
                if watch and step % config.picture_every == 0:
                    watch.image(step, objective, batch)
                if measure and config.measure_every and step % config.measure_every == 0:
                    _measured(fabric, measure, step, average.module if average else module)
                if time.monotonic() - saved > config.checkpoint_seconds and step < config.steps:
                    save(fabric, checkpoint, state, step, required=False)
                    saved = time.monotonic()
                if _should_stop(fabric, stopped, step, config):
                    _log.warning("stopped at step %d of %d", step, config.steps)
                    raise KeyboardInterrupt
        finally:
            bar.close()
            save(fabric, checkpoint, state, step, required=True)
    fabric.barrier()  # no process may read the checkpoint before it is written
    return step


def _measured(fabric: Fabric, measure: Measure, step: int, module: nn.Module) -> None:
    """Measure in the first process, with the module in the state that it is used in; the others wait."""
    if fabric.is_global_zero:
        training = module.training
        module.eval()
        measure(step, module)
        module.train(training)
    fabric.barrier()


def _should_stop(fabric: Fabric, stopped: threading.Event, step: int, config: LoopConfig) -> bool:
    """Tell whether to stop now; several processes agree every `log_every` steps, to stop at the same one."""
    if fabric.world_size == 1:
        return stopped.is_set()
    if step % config.log_every:
        return False
    flag = torch.tensor(float(stopped.is_set()), device=fabric.device)
    total = cast(Tensor, fabric.all_reduce(flag, reduce_op="sum"))
    return float(total) > 0


def _step(
    fabric: Fabric,
    objective: Objective,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Any,
    learning_rate: float,
    clip: float,
) -> dict[str, Tensor] | None:
    """Take one optimiser step; return None and leave the model unchanged if the gradients are not finite."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    # Even the forward pass updates the running statistics of batch normalisation.
    before = [buffer.clone() for buffer in model.buffers()]
    images, truth = objective.prepare(batch)
    losses = objective.losses(model(images.contiguous(memory_format=torch.channels_last)), truth)
    optimizer.zero_grad(set_to_none=True)
    fabric.backward(losses["loss"])
    # Gradients are reduced over the processes, so all of them take the same decision.
    norm = fabric.clip_gradients(model, optimizer, max_norm=clip, error_if_nonfinite=False)
    if norm is not None and not bool(torch.isfinite(norm)):
        with torch.no_grad():
            for buffer, old in zip(model.buffers(), before, strict=True):
                buffer.copy_(old)
        return None
    optimizer.step()
    return losses


def _to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for name, value in batch.items()
    }
