"""Read and write weights files.

Nothing in a file is ever executed: safetensors contains only numbers, and PyTorch files are read with `weights_only`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from superpoint_ros.extraction.network import (
    ENCODER,
    HEADS,
    Architecture,
    Norm,
    SuperPointNet,
    fold_batch_norm,
)
from superpoint_ros.extraction.shortening import shorten
from superpoint_ros.io.files import atomic_write

_FOLDER = Path(__file__).parent / "pretrained"

KNOWN = {
    "default": (_FOLDER / "default.safetensors", "trained by this package, free for any use (model card beside it)"),
    "light": (_FOLDER / "light.safetensors", "the same with a tenth of the computation, less accurate"),
}
"""Known weights by name: file and description."""

ORDER, BY_ENERGY = "descriptor_order", "energy"
"""Entry of a file's metadata for descriptors with ordered components, see `network.Architecture`."""


class WeightsError(ValueError):
    """Weights are missing, unreadable or of the wrong shape; the message is one sentence for the user."""


@dataclass(frozen=True)
class Weights:
    """A network with its weights.

    Attributes:
        network: ready for inference.
        name: the known name, or the file name without its suffix.
        sha256: of the file, in hex.
        path: the file that was read.
        layout: naming scheme of the file's tensors.
        ranges: minimum and maximum input of convolutions by name, for 8-bit arithmetic; empty if the file has none.
    """

    network: SuperPointNet
    name: str
    sha256: str
    path: Path
    layout: str
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Return the name and the first 12 hex digits of the checksum, as in messages."""
        return f"{self.name}:{self.sha256[:12]}"


def load(name_or_path: str | Path, descriptor_size: int = 0) -> Weights:
    """Read weights by known name or path.

    The path is a file of this package (.safetensors), of Magic Leap's or rpautrat's PyTorch code (.pth), or a folder
    that `transformers.SuperPointForKeypointDetection.save_pretrained` wrote.

    Args:
        descriptor_size: number of components of a descriptor, 0 for all, see `shortening.shorten`.

    Raises:
        WeightsError: if there is no such file, or it contains no SuperPoint network.
        ValueError: if the descriptors cannot have this size.
    """
    path, name = _find(name_or_path)
    state, layout = _canonical(_read(path), path)
    notes = metadata(path)
    network = SuperPointNet(replace(_architecture(state, path), ordered=notes.get(ORDER) == BY_ENERGY))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        detail = re.sub(r"\s+", " ", str(error).split("\n", 1)[-1]).strip(" .").replace(". ", "; ")
        raise WeightsError(f"weights '{path}' do not fit the SuperPoint network: {detail}") from error
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values() if tensor.is_floating_point()):
        raise WeightsError(f"weights '{path}' contain values that are not finite")
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    network = shorten(network.eval().float(), descriptor_size)
    return Weights(network, name, checksum, path, layout, _ranges(notes, path))


def save(
    network: SuperPointNet,
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Write a network as float16 safetensors in the paper's form, folding batch normalisation if that is exact.

    `metadata` is stored with it as text; `ranges` is that of `Weights`.
    """
    from safetensors.torch import save_file

    metadata = {"format": "pt", **(metadata or {})}
    if network.architecture.ordered:
        metadata[ORDER] = BY_ENERGY
    if ranges:
        metadata[_RANGES] = json.dumps({name: list(both) for name, both in ranges.items()})
    if network.architecture.norm == "before_relu":
        network = fold_batch_norm(network)
    state = {_public(name): tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    with atomic_write(path) as partial:
        save_file(state, partial, metadata)
        partial.chmod(0o644)  # safetensors makes files readable for the owner only


def metadata(path: str | Path) -> dict[str, str]:
    """Read the metadata of a safetensors file; files of other kinds have none."""
    if Path(path).suffix != ".safetensors":
        return {}
    from safetensors import safe_open

    with safe_open(str(path), "pt") as file:
        return dict(file.metadata() or {})


_RANGES = "activation_ranges"


def _ranges(notes: Mapping[str, str], path: Path) -> dict[str, tuple[float, float]]:
    entries = notes.get(_RANGES, "{}")
    try:
        found = {str(name): (float(low), float(high)) for name, (low, high) in json.loads(entries).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise WeightsError(f"weights '{path}' contain activation ranges that cannot be read") from error
    if not all(math.isfinite(low) and math.isfinite(high) and low < high for low, high in found.values()):
        raise WeightsError(f"weights '{path}' contain activation ranges that are empty or not finite")
    return found


def _find(name_or_path: str | Path) -> tuple[Path, str]:
    if str(name_or_path) in KNOWN:
        name = str(name_or_path)
        path = KNOWN[name][0]
        if not path.is_file():
            raise WeightsError(f"weights '{name}' are missing from the installation, expected at '{path}'")
        return path, name
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        for candidate in ("model.safetensors", "pytorch_model.bin"):
            if (path / candidate).is_file():
                return path / candidate, path.resolve().name
        raise WeightsError(f"weights folder '{path}' contains neither model.safetensors nor pytorch_model.bin")
    if not path.is_file():
        raise WeightsError(f"weights '{name_or_path}' are neither a file nor one of {', '.join(KNOWN)}")
    return path, path.stem


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise _read_error(path, error) from error
    except Exception as error:
        # PyTorch raises anything on malformed data, and its message advises executing the file.
        raise WeightsError(
            f"weights '{path}' cannot be read as tensors: the file is damaged, not a PyTorch file, or contains more "
            "than numbers"
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise WeightsError(f"weights '{path}' contain no table of tensors")
    return state


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    # Imported here, so that PyTorch files can be used without safetensors.
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _read_error(path, error) from error


def _read_error(path: Path, error: Exception) -> WeightsError:
    reason = str(error).strip().split("\n")[0]
    return WeightsError(f"weights '{path}' cannot be read as tensors: {reason}")


_TRANSFORMERS_HEADS = {
    "keypoint_decoder.conv_score_a": "convPa",
    "keypoint_decoder.conv_score_b": "convPb",
    "descriptor_decoder.conv_descriptor_a": "convDa",
    "descriptor_decoder.conv_descriptor_b": "convDb",
}


def _canonical(state: dict[str, Tensor], path: Path) -> tuple[dict[str, Tensor], str]:
    """Rename a file's tensors to this package's modules."""
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    if "conv1a.weight" in state:
        return {_private(name): tensor for name, tensor in state.items()}, "superpoint"
    if "encoder.conv_blocks.0.conv_a.weight" in state:
        return {_from_transformers(name): tensor for name, tensor in state.items()}, "transformers"
    if "backbone.0.0.conv.weight" in state:
        return {_from_rpautrat(name): tensor for name, tensor in state.items()}, "rpautrat"
    known = "conv1a.weight, encoder.conv_blocks.0.conv_a.weight or backbone.0.0.conv.weight"
    raise WeightsError(f"weights '{path}' contain no SuperPoint network: none of {known} is in it")


def _private(name: str) -> str:
    layer, _, rest = name.partition(".")
    return name if rest.startswith(("conv.", "norm.")) else f"{layer}.conv.{rest}"


def _public(name: str) -> str:
    return name.replace(".conv.", ".")


def _from_transformers(name: str) -> str:
    module, _, kind = name.rpartition(".")
    if match := re.fullmatch(r"encoder\.conv_blocks\.(\d)\.conv_([ab])", module):
        return f"conv{int(match[1]) + 1}{match[2]}.conv.{kind}"
    return f"{_TRANSFORMERS_HEADS.get(module, module)}.conv.{kind}"


def _from_rpautrat(name: str) -> str:
    name = name.replace(".bn.", ".norm.")
    if match := re.fullmatch(r"backbone\.(\d)\.([01])\.(.+)", name):
        return f"conv{int(match[1]) + 1}{'ab'[int(match[2])]}.{match[3]}"
    if match := re.fullmatch(r"(detector|descriptor)\.([01])\.(.+)", name):
        return f"conv{'P' if match[1] == 'detector' else 'D'}{'ab'[int(match[2])]}.{match[3]}"
    return name


def _architecture(state: Mapping[str, Tensor], path: Path) -> Architecture:
    widths = {}
    for layer in ENCODER + HEADS:
        weight = state.get(f"conv{layer}.conv.weight")
        if weight is None or weight.ndim != 4:
            raise WeightsError(f"weights '{path}' lack the layer conv{layer}, so they are not a SuperPoint network")
        widths[layer] = weight.shape[0]
    norm: Norm = "none"
    if "conv1a.norm.weight" in state:
        # Only rpautrat's form also normalises the last layer of each head; this package's files may contain either.
        norm = "after_relu" if "convPb.norm.weight" in state else "before_relu"
    encoder = tuple(widths[layer] for layer in ENCODER)
    return Architecture(encoder, widths["Pa"], widths["Da"], widths["Db"], norm)
