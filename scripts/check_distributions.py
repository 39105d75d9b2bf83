#!/usr/bin/env python3
"""Build wheel and sdist, install each in its own environment, and use it outside the source tree.

Everything is downloaded as for a user. With --reuse the dependencies of the environment that runs this script are used,
and only build requirements are downloaded.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
EXCLUDED = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist", "*_output")

USE = """
import pathlib
import numpy as np
import superpoint_ros
from superpoint_ros.hosts.wire import typesystem
from superpoint_ros.io.resources import share_directory

package, share = pathlib.Path(superpoint_ros.__file__).parent, share_directory()
assert package.parent.name == "site-packages", package
for name in ("package.xml", "msg/Features.msg", "config/detector.yaml", "launch/detector.launch.py",
             "rtabmap/superpoint_detector.py"):
    assert (share / name).is_file(), f"{share / name} is missing"
for name in ("py.typed", "training/recipes/default.yaml"):
    assert (package / name).is_file(), f"{package / name} is missing"
image = np.random.default_rng(0).integers(0, 255, (120, 160), np.uint8)
for name in ("default", "light"):
    assert len(superpoint_ros.SuperPoint(name, device="cpu").extract(image)) > 0
assert typesystem.message_class("superpoint_ros/msg/Features")
"""


def run(*words: str | Path, **options: object) -> None:
    """Run a program, and raise if it fails."""
    print("+", *words, flush=True)
    subprocess.run([str(word) for word in words], check=True, **options)  # type: ignore[call-overload]


def environment(folder: Path, reuse: bool) -> Path:
    """Create a virtual environment and return its bin folder."""
    venv.create(folder, with_pip=True, symlinks=True)
    if reuse:
        (site,) = folder.glob("lib/python*/site-packages")
        # The venv's own version would hide the one installed for the reused packages.
        run(folder / "bin" / "python", "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools")
        (site / "reused.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / "bin"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reuse", action="store_true", help="use the dependencies of this environment")
    reuse = parser.parse_args().reuse
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory(prefix="superpoint_ros_dist_") as name:
        folder = Path(name)
        shutil.copytree(PROJECT, folder / "source", ignore=EXCLUDED)
        builder = environment(folder / "builder", reuse=False)
        run(builder / "python", "-m", "pip", "install", "--quiet", "build")
        run(builder / "python", "-m", "build", "--outdir", folder / "dist", folder / "source", env=clean)
        for path in sorted((folder / "dist").iterdir()):
            programs = environment(folder / f"venv_{path.suffix[1:]}", reuse)
            if reuse:
                run(programs / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", path)
            else:
                what, limits = f"{path}[standalone]", PROJECT / "constraints.txt"
                run(programs / "python", "-m", "pip", "install", "--quiet", "-c", limits, what)
            away = {"cwd": folder, "env": clean}
            run(programs / "python", "-m", "pip", "check", **away)
            run(programs / "superpoint-ros", "--version", **away)
            run(programs / "superpoint-ros", "weights", "list", **away)
            run(programs / "python", "-c", USE, **away)
            print(f"{path.name}: installs and works outside the source tree", flush=True)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"check_distributions.py: {' '.join(map(str, error.cmd))[:200]} failed with code {error.returncode}")
