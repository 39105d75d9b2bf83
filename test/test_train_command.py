"""`superpoint-ros train` as users run it: whole recipes, interruptions, several processes, adaptation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch
import yaml

pytest.importorskip("lightning", reason="training needs the Python package lightning")

from environment import free_port

from superpoint_ros import SuperPoint
from superpoint_ros.evaluation import planar, warps
from superpoint_ros.extraction import weights
from superpoint_ros.training import networks, recipe

TIMEOUT = 300  # timeout in seconds; a few suffice on an idle machine
COMMAND = [sys.executable, "-m", "superpoint_ros", "train"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}  # small networks are fastest on one thread
SHAPES = ["batch=2", "size=[48,64]", "accelerator=cpu", "precision=32-true", "network.encoder=[8,8,8,8,16,16,16,16]",
          "network.detector=32", "network.descriptor=32", "network.descriptor_size=24"]  # fmt: skip


@pytest.fixture
def train(command):
    """Run `superpoint-ros train` in this process, on one thread like the other processes."""
    threads = torch.get_num_threads()

    def run(*words, code=0):
        done = command("train", *words)
        assert done.returncode == code, done.stderr
        return done

    torch.set_num_threads(1)
    yield run
    torch.set_num_threads(threads)


def together(*words):
    """Run two processes that train together."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1",
                "--master-port", str(free_port()), "-m", "superpoint_ros", "train"]  # fmt: skip
    done = subprocess.run([*launcher, *map(str, words)], capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return done


def step_of(run):
    return torch.load(run / "checkpoint.ckpt", weights_only=True)["step"]


@pytest.fixture(scope="session")
def photographs(tmp_path_factory, grey):
    """Crops of a photograph."""
    folder = tmp_path_factory.mktemp("photographs")
    for i in range(12):
        x, y = 30 * (i % 4), 60 * (i // 4)
        cv2.imwrite(str(folder / f"{i:02d}.png"), grey[y : y + 240, x : x + 320])
    return folder


@pytest.mark.slow
def test_the_miniature_recipe_runs_every_stage_and_improves_repeatability(train, tmp_path, photographs):
    done = train("run", "miniature", f"images={photographs}", f"out={tmp_path / 'run'}")
    result = json.loads(done.stdout)
    assert result["sha256"] == weights.load(result["weights"]).sha256
    for stage, steps in (("shapes", 400), ("detector", 80), ("joint", 80)):
        assert step_of(tmp_path / "run" / stage) == steps
    assert len(list((tmp_path / "run" / "labels").glob("*.npy"))) == 12

    def repeatability(network, name):
        path = tmp_path / f"{name}.safetensors"
        weights.save(network, path)
        superpoint = SuperPoint(path, max_keypoints=300, detection_threshold=0.0)

        def method(image):
            features = superpoint.extract(image)
            return features.keypoints, features.descriptors

        held = list(warps.warp_all(sorted(photographs.iterdir())[:6], (120, 160)))
        return planar.evaluate(method, held, 60).repeatability

    trained = networks.read(tmp_path / "run" / "joint")
    untrained = networks.create(trained.architecture)
    assert repeatability(trained, "trained") > repeatability(untrained, "untrained") + 0.15

    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.ckpt")}
    train("run", "miniature", f"images={photographs}", f"out={tmp_path / 'run'}")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.ckpt")} == stamps


def test_the_recipes_of_this_package_are_valid():
    for name in ("default", "light", "miniature"):
        stages = recipe.plan(recipe.read(name, {"images": "somewhere", "out": "elsewhere"}))
        assert stages[0].kind == "shapes"
        assert stages[-1].kind == "steer"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": {"joint": {"stepz": 3}}}, "stage 'joint': key 'stepz' is unknown, allowed is one of steps"),
        (
            {"stages": {"joint": {"kind": "jiont"}}},
            "kind 'jiont', allowed is one of shapes, label",
        ),
        ({"stages": {"joint": {"labels": "shapes"}}}, "needs the labels of an earlier stage, 'shapes' is not one"),
        ({"imagez": "x"}, "key 'imagez' is unknown, allowed is one of images, out"),
        ({"stages": {"shapes": {"batch": "many"}}}, "stage 'shapes': key 'batch' is 'many'"),
        (
            {"mean_of": ["joint", "labels"]},
            "mean_of names the stage 'labels', allowed is one of shapes, detector, joint, steer",
        ),
        ({"stages": {"steer": {"mean_of": ["joint", "steer"]}}}, "stage 'steer': mean_of names the stage 'steer'"),
    ],
)
def test_a_recipe_is_validated_before_its_first_stage(change, message):
    with pytest.raises(ValueError, match=message):
        recipe.read("miniature", change)


def test_an_unknown_recipe_is_an_error_that_lists_the_known_ones(train):
    assert "allowed is a YAML file or one of default, light, miniature" in train("run", "nothing", code=1).stderr


def test_settings_come_from_a_file_and_the_command_line_overrides_it(train, tmp_path):
    (tmp_path / "my.yaml").write_text("steps: 77\nranges: {rotation: 12}\n")
    shown = train("joint", "r", "i", "l", "--config", tmp_path / "my.yaml", "ranges.rotation=13", "--settings").stdout
    settings = yaml.safe_load(shown)
    assert (settings["steps"], settings["ranges"]["rotation"]) == (77, 13.0)
    (tmp_path / "my.yaml").write_text("stepz: 77\n")
    assert "setting 'stepz' is unknown" in train("shapes", "r", "--config", tmp_path / "my.yaml", code=1).stderr


def begun(run, *words):
    """Start a long run in the background, and wait for its first steps."""
    process = subprocess.Popen(
        [*COMMAND, "shapes", str(run), "steps=100000", "checkpoint_seconds=0.5", *SHAPES, *words],
        env=ENVIRONMENT, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + TIMEOUT
    while not (run / "checkpoint.ckpt").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_resumes_from_its_last_checkpoint(train, tmp_path, number):
    run = tmp_path / "run"
    process = begun(run)
    process.send_signal(number)
    assert process.wait(TIMEOUT) == (-9 if number == signal.SIGKILL else 130)
    reached = step_of(run)
    assert reached > 0
    done = train("shapes", run, f"steps={reached + 3}", *SHAPES)
    assert json.loads(done.stdout) == {"step": reached + 3}
    assert f"{reached}/{reached + 3}" in done.stderr


def test_killed_labelling_loses_no_label(train, tmp_path, photographs):
    out = tmp_path / "labels"
    words = ["label", str(photographs), str(out), "warps=3", "longer_side=160", "--device", "cpu"]
    process = subprocess.Popen([*COMMAND, *words], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + TIMEOUT
    while not list(out.glob("*.npy")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = {path: path.read_bytes() for path in out.glob("*.npy")}
    done = json.loads(train(*words).stdout)
    assert done["labelled"] == 12 - len(kept)
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert all(np.load(path).shape[1] == 3 for path in out.glob("*.npy"))


def test_a_full_disk_is_reported_and_keeps_the_last_checkpoint(train, tmp_path):
    run = tmp_path / "run"
    train("shapes", run, "steps=2", *SHAPES)
    before = (run / "checkpoint.ckpt").read_bytes()
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000));"
        "from superpoint_ros.cli import main; sys.exit(main())"
    )
    words = ["train", "shapes", str(run), "steps=4", "log_every=1000", *SHAPES]
    done = subprocess.run(
        [sys.executable, "-c", limited, *words], capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert done.returncode == 1
    assert f"checkpoint '{run / 'checkpoint.ckpt'}' cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert (run / "checkpoint.ckpt").read_bytes() == before
    assert not list(run.glob("*.partial"))


@pytest.mark.slow
def test_two_processes_train_one_network_and_share_the_labelling(train, tmp_path, photographs):
    words = ["run", "miniature", f"images={photographs}", f"out={tmp_path / 'run'}", "devices=2", "strategy=ddp",
             "stages.shapes.steps=4", "stages.detector.steps=3", "stages.joint.steps=3",
             "mean_of=[detector,joint]"]  # fmt: skip
    done = together(*words)
    assert json.loads(done.stdout)["weights"] == str(tmp_path / "run" / "weights.safetensors")
    for stage, steps in (("shapes", 4), ("detector", 3), ("joint", 3)):
        assert step_of(tmp_path / "run" / stage) == steps
    assert len(list((tmp_path / "run" / "labels_again").glob("*.npy"))) == 12
    assert np.isfinite(SuperPoint(tmp_path / "run" / "weights.safetensors").extract(
        cv2.imread(str(next(photographs.iterdir())))
    ).descriptors).all()  # fmt: skip
    mean = networks.average([tmp_path / "run" / "detector", tmp_path / "run" / "joint"])
    weights.save(mean, tmp_path / "mean.safetensors")
    written = weights.load(tmp_path / "run" / "weights.safetensors").network.state_dict()
    expected = weights.load(tmp_path / "mean.safetensors").network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in written.items())
    # Half of the gradient comes from the other process, so a single process has another result.
    train("shapes", tmp_path / "alone", "steps=4", *SHAPES)
    both = torch.load(tmp_path / "run" / "shapes" / "checkpoint.ckpt", weights_only=True)["model"]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in both.values())


@pytest.mark.slow
def test_adaptation_shows_before_and_after_on_the_held_out_part(train, tmp_path, photographs, tiny_weights):
    words = ["adapt", photographs, tmp_path / "run", f"weights={tiny_weights}", "held_out=0.25", "label.warps=3",
             "label.longer_side=160", "label.threshold=0.0", "joint.steps=3", "joint.batch=2", "joint.size=[64,64]",
             "joint.longer_side=160", "joint.precision=32-true", "joint.accelerator=cpu"]  # fmt: skip
    done = train(*words)
    result = json.loads(done.stdout)
    assert result["held_out"] == 3
    assert result["before"]["pairs"] == result["after"]["pairs"] == 3
    assert weights.load(result["weights"]).label
    assert "before" in done.stderr
    labelled = {path.name.removesuffix(".npy") for path in (tmp_path / "run" / "labels").glob("*.npy")}
    assert labelled == {f"{i:02d}.png" for i in range(9)}
    train(*words[:-1], "joint.accelerator=cpu", "held_out=1.0", code=1)


@pytest.mark.slow
def test_two_processes_adapt_together_and_one_measures(tmp_path, photographs, tiny_weights):
    words = ["adapt", photographs, tmp_path / "run", f"weights={tiny_weights}", "held_out=0.25", "label.warps=3",
             "label.longer_side=160", "label.threshold=0.0", "joint.steps=3", "joint.batch=2", "joint.size=[64,64]",
             "joint.longer_side=160", "joint.precision=32-true", "joint.accelerator=cpu", "joint.devices=2",
             "joint.strategy=ddp"]  # fmt: skip
    done = together(*words)
    assert json.loads(done.stdout)["held_out"] == 3
    assert done.stderr.count("held-out frames") == 1
    assert len(list((tmp_path / "run" / "labels").glob("*.npy"))) == 9


def test_shapes_can_be_previewed_without_training(train, tmp_path):
    train("shapes", "--preview", tmp_path / "shapes.png")
    assert cv2.imread(str(tmp_path / "shapes.png")) is not None
    assert "RUN" in train("shapes", code=1).stderr
