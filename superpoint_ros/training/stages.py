"""The stages of a training run, each in a folder of its own and going on where it was interrupted (paper, figure 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset
from tqdm import tqdm

from superpoint_ros.extraction.network import Architecture, SuperPointNet
from superpoint_ros.io.files import write_text
from superpoint_ros.training import loop, networks
from superpoint_ros.training.best import Best, Measure
from superpoint_ros.training.config import DetectorConfig, JointConfig, ShapesConfig, as_yaml, plain, read_yaml
from superpoint_ros.training.data import LabelledPictures, PairsDataset, ShapesDataset, ViewsDataset, held_out
from superpoint_ros.training.labels import LabelConfig, label_folder, label_folders
from superpoint_ros.training.loop import LoopConfig
from superpoint_ros.training.monitor import TensorBoard
from superpoint_ros.training.networks import CHECKPOINT
from superpoint_ros.training.objectives import DetectorObjective, JointObjective, Objective, ShapesObjective

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Data = Callable[[int, int], Dataset[Any]]
Chosen = Callable[[Path], bool]
Images = Path | Sequence[Path]
"""A folder of pictures, or several."""
SETTINGS = "config.yaml"
"""Name of the file that says how a folder was made."""
# What may differ when an interrupted run goes on.
_FREE = {"steps", "accelerator", "devices", "nodes", "strategy", "workers", "checkpoint_seconds", "log_every",
         "picture_every", "measure_every"}  # fmt: skip


def _is_training_image(path: Path) -> bool:
    return not held_out(path)


def train_shapes(run: Path, config: ShapesConfig) -> int:
    """MagicPoint: the detector on Synthetic Shapes. Returns the step reached."""
    sizes = config.network
    architecture = Architecture(sizes.encoder, sizes.detector, sizes.descriptor, sizes.descriptor_size)
    network = networks.new(architecture, config.seed)

    def dataset(rank: int, world: int) -> ShapesDataset:
        return ShapesDataset(config.size, config.batch, config.ranges, config.seed, rank)

    return _run(run, ShapesObjective(network, config.size, config.photometric), network, dataset, config)


def train_detector(
    run: Path,
    start_from: str | Path,
    images: Images,
    labels: Path,
    config: DetectorConfig,
    chosen: Chosen = _is_training_image,
) -> int:
    """MagicPoint on labelled images. Returns the step reached."""
    objective = partial(DetectorObjective, size=config.size, photometric=config.photometric)
    views = partial(ViewsDataset, config=config)
    return _train_on_labels(run, start_from, images, labels, config, chosen, objective, views)


def train_joint(
    run: Path,
    start_from: str | Path,
    images: Images,
    labels: Path,
    config: JointConfig,
    chosen: Chosen = _is_training_image,
    measure: Measure | None = None,
) -> int:
    """Detector and descriptor on warped pairs of labelled images. Returns the step reached.

    Args:
        measure: says every `config.measure_every` steps how good the network is; the best is kept, see `Best`.
    """
    objective = partial(JointObjective, size=config.size, photometric=config.photometric, loss=config.loss)
    views = partial(PairsDataset, config=config)
    return _train_on_labels(run, start_from, images, labels, config, chosen, objective, views, measure)


def _train_on_labels(
    run: Path,
    start_from: str | Path,
    images: Images,
    labels: Path,
    config: DetectorConfig,
    chosen: Chosen,
    objective: Callable[[SuperPointNet], Objective],
    views: Callable[..., Dataset[Any]],
    measure: Measure | None = None,
) -> int:
    """A stage on labelled images, which are read only where there is something left to do."""
    _check_settings(run, config)
    reached = networks.reached(run / CHECKPOINT)
    if reached >= config.steps:
        _keep_settings(run, config)
        return reached
    pictures = LabelledPictures.read(images, labels, config.longer_side, chosen, config.max_points, _bar("reading"))
    network = _start(start_from, pictures, config)

    def dataset(rank: int, world: int) -> Dataset[Any]:
        return views(pictures, rank=rank, world=world)

    return _run(run, objective(network), network, dataset, config, measure)


def label(
    source: str | Path,
    images: Images,
    out: Path,
    config: LabelConfig,
    processes: Fabric,
    chosen: Chosen = lambda path: True,
) -> int:
    """Label images with a trained detector, shared out among processes. Returns the number done here."""
    _keep_settings(out, config)
    heatmap = networks.detector(networks.read(source), str(processes.device))
    share = (processes.global_rank, processes.world_size)
    done = 0
    for folder, target in label_folders(images, out):
        done += label_folder(heatmap, folder, target, config, str(processes.device), _bar("labelling"), chosen, share)
    processes.barrier()
    return done


def _bar(what: str) -> Callable[[list[Path]], Iterable[Path]]:
    return lambda paths: tqdm(paths, unit="picture", desc=what, mininterval=5)


def _start(source: str | Path, pictures: LabelledPictures, config: DetectorConfig) -> SuperPointNet:
    """The network to go on from; the first views fix the statistics where it comes without them."""
    network = networks.read(source)
    sample = ViewsDataset(pictures, replace(config, batch=16))[0]
    images, _ = DetectorObjective(network, config.size, config.photometric).prepare(sample)
    return networks.trainable(network, images).requires_grad_(True)


def _run(
    run: Path,
    objective: Objective,
    network: SuperPointNet,
    dataset: Data,
    config: LoopConfig,
    measure: Measure | None = None,
) -> int:
    _keep_settings(run, config)
    with closing(TensorBoard(run)) as monitor:
        best = Best(run, measure, monitor) if measure and config.measure_every else None
        return loop.run(objective, dataset, config, run / CHECKPOINT, monitor, networks.extras(network), best)


def _check_settings(folder: Path, config: Any) -> None:
    """See that a folder, where it is there already, was begun with these settings.

    Raises:
        ValueError: if it was begun with other ones.
    """
    path, now = folder / SETTINGS, plain(config)
    if path.exists():
        before = read_yaml(path)
        for key in now.keys() - _FREE:
            if before.get(key) != now[key]:
                raise ValueError(
                    f"folder '{folder}' was begun with {key} {before.get(key)}, not {now[key]}: go on with that or "
                    "take another folder"
                )


def _keep_settings(folder: Path, config: Any) -> None:
    """Write down how a folder is made; raises as `_check_settings` does."""
    _check_settings(folder, config)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / SETTINGS, as_yaml(config))
