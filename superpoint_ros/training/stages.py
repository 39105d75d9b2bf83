"""The stages of a training run, each resumable and in a folder of its own (paper, figure 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from superpoint_ros.extraction.network import ENCODER, Architecture, SuperPointNet
from superpoint_ros.io.files import atomic_write, write_text
from superpoint_ros.io.images import evenly_spaced, list_images, read_grey
from superpoint_ros.training import loop, networks
from superpoint_ros.training.best import Best, Measure
from superpoint_ros.training.config import DetectorConfig, JointConfig, ShapesConfig, read_yaml, to_plain, to_yaml
from superpoint_ros.training.data import LabelledImages, PairsDataset, ShapesDataset, ViewsDataset, is_held_out
from superpoint_ros.training.labels import LabelConfig, label_folder, label_folders
from superpoint_ros.training.loop import LoopConfig
from superpoint_ros.training.monitor import TensorBoard
from superpoint_ros.training.networks import CHECKPOINT
from superpoint_ros.training.objectives import DetectorObjective, JointObjective, Objective, ShapesObjective
from superpoint_ros.training.steering import SteerConfig, Steering, make_steerable
from superpoint_ros.training.upper_layers import DescriptorObjective, UpperObjective

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Data = Callable[[int, int], Dataset[Any]]
PathFilter = Callable[[Path], bool]
Images = Path | Sequence[Path]
"""A folder of images, or several."""
SETTINGS = "config.yaml"
"""Name of the file that records the settings of a stage's folder."""
# Settings that may differ when an interrupted run is resumed.
_CHANGEABLE = {"steps", "accelerator", "devices", "nodes", "strategy", "workers", "checkpoint_seconds", "log_every",
         "picture_every", "measure_every"}  # fmt: skip


def _is_training_image(path: Path) -> bool:
    return not is_held_out(path)


def train_shapes(run: Path, config: ShapesConfig) -> int:
    """Train MagicPoint, the detector, on Synthetic Shapes; return the step reached."""
    sizes = config.network
    architecture = Architecture(sizes.encoder, sizes.detector, sizes.descriptor, sizes.descriptor_size)
    network = networks.create(architecture, config.seed)

    def dataset(rank: int, world: int) -> ShapesDataset:
        return ShapesDataset(config.size, config.batch, config.ranges, config.seed, rank)

    return _run(run, ShapesObjective(network, config.size, config.photometric), network, dataset, config)


def train_detector(
    run: Path,
    start_from: str | Path,
    images: Images,
    labels: Path,
    config: DetectorConfig,
    select: PathFilter = _is_training_image,
) -> int:
    """Train MagicPoint on labelled images; return the step reached."""
    objective = partial(DetectorObjective, size=config.size, photometric=config.photometric)
    views = partial(ViewsDataset, config=config)
    return _train_on_labels(run, start_from, images, labels, config, select, objective, views)


def train_joint(
    run: Path,
    start_from: str | Path,
    images: Images,
    labels: Path,
    config: JointConfig,
    select: PathFilter = _is_training_image,
    measure: Measure | None = None,
) -> int:
    """Detector and descriptor on warped pairs of labelled images. Returns the step reached.

    Args:
        measure: says every `config.measure_every` steps how good the network is; the best is kept, see `Best`.

    Raises:
        ValueError: if the settings do not fit each other.
    """
    if config.occlusion and config.loss.descriptor == "hinge":
        raise ValueError(f"occlusion is {config.occlusion}, allowed with loss.descriptor hinge is 0")
    views = partial(PairsDataset, config=config)
    return _train_on_labels(run, start_from, images, labels, config, select, _pairs_objective(config), views, measure)


def _pairs_objective(config: JointConfig) -> Callable[[SuperPointNet], Objective]:
    common: dict[str, Any] = {"size": config.size, "photometric": config.photometric, "loss": config.loss}
    if not 0 <= config.frozen <= len(ENCODER):
        raise ValueError(f"frozen is {config.frozen}, allowed is 0 to {len(ENCODER)}")
    if config.replay and config.heads != "descriptor" and not config.frozen:
        raise ValueError(f"replay is {config.replay}, allowed without frozen layers is 0")
    if config.replay < 0:
        raise ValueError(f"replay is {config.replay}, allowed is at least 0")
    if config.replay_capacity < config.batch:
        raise ValueError(f"replay_capacity is {config.replay_capacity}, allowed is at least batch, {config.batch}")
    capacity = config.replay_capacity if config.replay else config.batch
    kept: dict[str, Any] = {"replay": config.replay, "capacity": capacity, "seed": config.seed}
    if config.heads == "descriptor":
        return partial(DescriptorObjective, **common, **kept)
    if config.frozen:
        return partial(UpperObjective, **common, **kept, heads=config.heads, frozen=config.frozen)
    return partial(JointObjective, **common, heads=config.heads)


def _train_on_labels(
    run: Path,
    start_from: str | Path,
    images: Images,
    labels: Path,
    config: DetectorConfig,
    select: PathFilter,
    objective: Callable[[SuperPointNet], Objective],
    views: Callable[..., Dataset[Any]],
    measure: Measure | None = None,
) -> int:
    """Run a stage on labelled images, which are read only if there are steps left to take."""
    _check_settings(run, config)
    reached = networks.checkpoint_step(run / CHECKPOINT)
    if reached >= config.steps:
        _record_settings(run, config)
        return reached
    labelled = LabelledImages.read(
        images,
        labels,
        config.longer_side,
        select,
        config.max_points,
        _progress_bar("reading"),
    )
    network = _initial_network(start_from, labelled, config)

    def dataset(rank: int, world: int) -> Dataset[Any]:
        return views(labelled, rank=rank, world=world)

    return _run(run, objective(network), network, dataset, config, measure)


def label(
    source: str | Path,
    images: Images,
    out: Path,
    config: LabelConfig,
    processes: Fabric,
    select: PathFilter = lambda path: True,
) -> int:
    """Label images with a trained detector, shared out among processes. Returns the number done here."""
    _record_settings(out, config)
    heatmap = networks.heatmap_function(networks.read(source), str(processes.device))
    shard = (processes.global_rank, processes.world_size)
    done = 0
    for folder, target in label_folders(images, out):
        done += label_folder(
            heatmap,
            folder,
            target,
            config,
            str(processes.device),
            _progress_bar("labelling"),
            select,
            shard,
        )
    processes.barrier()
    return done


def steer(
    run: Path,
    sources: Sequence[str | Path],
    images: Images,
    config: SteerConfig,
    select: PathFilter = _is_training_image,
) -> Steering | None:
    """Change the basis of a network's descriptors so that they are steerable, and write a checkpoint.

    Args:
        sources: networks; of several the mean is taken, see `networks.average`.

    Returns:
        The agreement of descriptors before and after; None if the checkpoint exists and the sources are as they were.
    """
    _record_settings(run, config)
    steps = [networks.checkpoint_step(Path(source) / CHECKPOINT) for source in sources]
    if networks.source_steps(run / CHECKPOINT) == steps:
        return None
    network, found = steerable(networks.average(sources), images, config, select)
    extras = {**networks.extras(network), networks.SOURCE_STEPS: steps}
    with atomic_write(run / CHECKPOINT) as partial:
        torch.save({"model": network.state_dict(), "step": 0, "extras": extras}, partial)
    return found


def steerable(
    network: SuperPointNet, images: Images, config: SteerConfig, select: PathFilter = _is_training_image
) -> tuple[SuperPointNet, Steering]:
    """Change the basis of a network's descriptors in place, on some of the images that `select` accepts."""
    folders = [images] if isinstance(images, Path) else images
    paths = [path for folder in folders for path in list_images(folder) if select(path)]
    chosen = evenly_spaced(paths, config.images)
    pictures = (read_grey(path, config.longer_side) for path in _progress_bar("steering")(chosen))
    return make_steerable(network, pictures, config.max_points)


def _progress_bar(what: str) -> Callable[[list[Path]], Iterable[Path]]:
    return lambda paths: tqdm(paths, unit="image", desc=what, mininterval=5)


def _initial_network(source: str | Path, labelled: LabelledImages, config: DetectorConfig) -> SuperPointNet:
    """Read the initial network; if it lacks batch statistics, the first views provide them."""
    network = networks.read(source)
    sample = ViewsDataset(labelled, replace(config, batch=16))[0]
    images, _ = DetectorObjective(network, config.size, config.photometric).prepare(sample)
    return networks.with_batch_normalisation(network, images).requires_grad_(True)


def _run(
    run: Path,
    objective: Objective,
    network: SuperPointNet,
    dataset: Data,
    config: LoopConfig,
    measure: Measure | None = None,
) -> int:
    _record_settings(run, config)
    with closing(TensorBoard(run)) as monitor:
        best = Best(run, measure, monitor) if measure and config.measure_every else None
        return loop.run(objective, dataset, config, run / CHECKPOINT, monitor, networks.extras(network), best)


def _check_settings(folder: Path, config: Any) -> None:
    """Check that a folder, if it exists, was started with these settings.

    Raises:
        ValueError: if it was started with others.
    """
    path, now = folder / SETTINGS, to_plain(config)
    if path.exists():
        before = read_yaml(path)
        for key in sorted(now.keys() - _CHANGEABLE):
            if key not in before:
                raise ValueError(
                    f"folder '{folder}' was started by a version without the setting {key}: use another folder"
                )
            if before[key] != now[key]:
                raise ValueError(
                    f"folder '{folder}' was started with {key} {before[key]}, not {now[key]}: continue with that "
                    "or use another folder"
                )


def _record_settings(folder: Path, config: Any) -> None:
    """Record the settings of a folder; raise as `_check_settings` does."""
    _check_settings(folder, config)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / SETTINGS, to_yaml(config))
