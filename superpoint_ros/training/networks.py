"""Networks to train: newly initialised, or read from checkpoints and weights files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from superpoint_ros.extraction import decoding, runtimes, weights
from superpoint_ros.extraction.network import ENCODER, HEADS, Architecture, SuperPointNet

CHECKPOINT = "checkpoint.ckpt"
"""Name of the checkpoint in a stage's folder."""

SOURCE_STEPS = "source_steps"
"""Entry of a checkpoint's extras, see `source_steps`."""


def create(architecture: Architecture | None = None, seed: int = 0) -> SuperPointNet:
    """Create an untrained network with batch normalisation, without which training does not converge."""
    torch.manual_seed(seed)
    a = architecture or Architecture()
    network = SuperPointNet(Architecture(a.encoder, a.detector, a.descriptor, a.descriptor_size, "before_relu"))
    with torch.no_grad():
        network.convPb.conv.bias[-1] = 5.0  # type: ignore[index]  # prior: most cells hold no keypoint
    return network


def extras(network: SuperPointNet) -> dict[str, Any]:
    """Return what a checkpoint must record about its network."""
    return {"architecture": asdict(network.architecture)}


def read(source: str | Path) -> SuperPointNet:
    """Read the network of a stage's folder, a checkpoint, or weights (see `superpoint_ros.extraction.weights.load`).

    Raises:
        ValueError: if there is none, or it cannot be read.
    """
    path = Path(source)
    if path.is_dir() and (path / CHECKPOINT).exists():
        path = path / CHECKPOINT
    if path.suffix != ".ckpt":
        return weights.load(source).network
    if not path.is_file():
        raise ValueError(f"checkpoint '{path}' does not exist")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        sizes = state.get("extras", {}).get("architecture", {"norm": "before_relu"})
        network = SuperPointNet(Architecture(**sizes))
        trained = state.get("average", state["model"])  # the average of the weights where the run kept one
        network.load_state_dict({name.removeprefix("network."): value for name, value in trained.items()})
    except Exception as error:
        raise _checkpoint_error(path, error) from error
    return network.eval()


def average(sources: Sequence[str | Path]) -> SuperPointNet:
    """Average the weights of several networks that were trained from a common one.

    The average is often better than each of them (Wortsman et al., 2022, Model soups).

    Raises:
        ValueError: if there are none, or their layers differ.
    """
    found = [read(source) for source in sources]
    states = [network.state_dict() for network in found]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    if any(other != shapes[0] for other in shapes):
        raise ValueError(f"networks {', '.join(map(str, sources))} differ in their layers and cannot be averaged")
    for name, value in found[0].state_dict().items():
        value.copy_(torch.stack([state[name].double() for state in states]).mean(dim=0))
    found[0].architecture = replace(found[0].architecture, ordered=all(one.architecture.ordered for one in found))
    return found[0]


def _checkpoint_error(path: Path, error: Exception) -> ValueError:
    return ValueError(f"file '{path}' is not a checkpoint of this package: {error}")


def checkpoint_step(checkpoint: Path) -> int:
    """Return the step that a checkpoint was saved at; 0 if it does not exist.

    Raises:
        ValueError: if the file is not a checkpoint.
    """
    if not checkpoint.is_file():
        return 0
    try:
        # Memory-mapped, since only one number is needed.
        return int(torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["step"])
    except Exception as error:
        raise _checkpoint_error(checkpoint, error) from error


def source_steps(checkpoint: Path) -> list[int] | None:
    """Return the steps of the networks that a checkpoint of the stage steer was made of; None without one.

    Raises:
        ValueError: if the file is not a checkpoint.
    """
    if not checkpoint.is_file():
        return None
    try:
        return list(torch.load(checkpoint, map_location="cpu", weights_only=True)["extras"].get(SOURCE_STEPS, []))
    except Exception as error:
        raise _checkpoint_error(checkpoint, error) from error


def with_batch_normalisation(network: SuperPointNet, images: Tensor) -> SuperPointNet:
    """Return an equivalent network with batch normalisation, which weights files have folded into the convolutions.

    Args:
        images: (B, 1, H, W) in 0..1, representative of the training data; they determine the statistics.
    """
    a = network.architecture
    if a.norm == "before_relu":
        network.architecture = replace(a, ordered=False)  # training does not keep the order
        return network
    if a.norm == "after_relu":
        raise ValueError("weights with batch normalisation after the ReLU cannot be trained further")
    result = SuperPointNet(replace(a, norm="before_relu", ordered=False)).eval()
    result.load_state_dict(network.state_dict(), strict=False)
    layers = [result.get_submodule(f"conv{name}") for name in ENCODER + HEADS]
    hooks = [layer.norm.register_forward_pre_hook(_make_identity) for layer in layers if layer.norm is not None]  # type: ignore[union-attr]
    with torch.no_grad():
        result(images)
    for hook in hooks:
        hook.remove()
    return result


def _make_identity(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
    """Turn a normalisation into the identity for inputs with these statistics."""
    variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
    norm.running_mean, norm.running_var = mean.clone(), variance.clone()
    norm.weight.data, norm.bias.data = torch.sqrt(variance + norm.eps), mean.clone()


def heatmap_function(network: SuperPointNet, device: str = "cpu") -> Callable[[Tensor], Tensor]:
    """Heat maps of a network: (B, 1, H, W) in 0..1 -> (B, H, W); in bfloat16 where the device computes it natively."""
    network = network.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return partial(_heatmap, network, torch.device(device))


def native_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16, without which it is emulated ten times slower than float32."""
    return device.type != "cpu" or runtimes.choose_precision("auto", device) == "bfloat16"


@torch.inference_mode()
def _heatmap(network: SuperPointNet, device: torch.device, images: Tensor) -> Tensor:
    images = images.to(device, memory_format=torch.channels_last)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=native_bfloat16(device)):
        logits = network.detect(network.encode(images))
    return decoding.heatmap(logits)
