"""Networks to train: new ones, those of checkpoints, and those of weights files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from superpoint_ros.extraction import decoding, runtimes, weights
from superpoint_ros.extraction.network import ENCODER, HEADS, Architecture, SuperPointNet

CHECKPOINT = "checkpoint.ckpt"
"""Name of the checkpoint in a stage's folder."""


def new(architecture: Architecture | None = None, seed: int = 0) -> SuperPointNet:
    """An untrained network with the batch normalisation without which training does not converge."""
    torch.manual_seed(seed)
    a = architecture or Architecture()
    network = SuperPointNet(Architecture(a.encoder, a.detector, a.descriptor, a.descriptor_size, "before_relu"))
    with torch.no_grad():
        network.convPb.conv.bias[-1] = 5.0  # type: ignore[index]  # most cells hold no keypoint: begin with that
    return network


def extras(network: SuperPointNet) -> dict[str, Any]:
    """What a checkpoint must say about its network."""
    return {"architecture": asdict(network.architecture)}


def read(source: str | Path) -> SuperPointNet:
    """The network of a stage's folder, of its checkpoint, or of weights (see `superpoint_ros.extraction.weights.load`).

    Raises:
        ValueError: if there is none.
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
        raise _no_checkpoint(path, error) from error
    return network.eval()


def mean(sources: Sequence[str | Path]) -> SuperPointNet:
    """The network in the middle of several that were trained one from the other: each number is the mean of theirs. It
    is often better than each of them (Wortsman et al., 2022, Model soups).

    Raises:
        ValueError: if there is none, or if their sizes differ.
    """
    found = [read(source) for source in sources]
    states = [network.state_dict() for network in found]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    if any(other != shapes[0] for other in shapes):
        raise ValueError(f"networks {', '.join(map(str, sources))} differ in their layers and have no mean")
    for name, value in found[0].state_dict().items():
        value.copy_(torch.stack([state[name].double() for state in states]).mean(dim=0))
    return found[0]


def _no_checkpoint(path: Path, error: Exception) -> ValueError:
    return ValueError(f"file '{path}' is no checkpoint of this package: {error}")


def reached(checkpoint: Path) -> int:
    """The step that a run has come to, as its checkpoint says; 0 where there is none.

    Raises:
        ValueError: if the file is something else.
    """
    if not checkpoint.is_file():
        return 0
    try:
        # Mapped, as nothing but one number is wanted of it.
        return int(torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["step"])
    except Exception as error:
        raise _no_checkpoint(checkpoint, error) from error


def trainable(network: SuperPointNet, images: Tensor) -> SuperPointNet:
    """A network that gives the same results and has batch normalisation, which weights files have folded away.

    Args:
        images: (B, 1, H, W) in 0..1, of the kind that it will be trained with: they fix the statistics.
    """
    a = network.architecture
    if a.norm == "before_relu":
        return network
    if a.norm == "after_relu":
        raise ValueError("weights with batch normalisation after the ReLU cannot be trained on")
    result = SuperPointNet(Architecture(a.encoder, a.detector, a.descriptor, a.descriptor_size, "before_relu")).eval()
    result.load_state_dict(network.state_dict(), strict=False)
    layers = [result.get_submodule(f"conv{name}") for name in ENCODER + HEADS]
    hooks = [layer.norm.register_forward_pre_hook(_calibrate) for layer in layers if layer.norm is not None]  # type: ignore[union-attr]
    with torch.no_grad():
        result(images)
    for hook in hooks:
        hook.remove()
    return result


def _calibrate(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
    """Make a normalisation the identity on data of these statistics."""
    variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
    norm.running_mean, norm.running_var = mean.clone(), variance.clone()
    norm.weight.data, norm.bias.data = torch.sqrt(variance + norm.eps), mean.clone()


def detector(network: SuperPointNet, device: str = "cpu") -> Callable[[Tensor], Tensor]:
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
