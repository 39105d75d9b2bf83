"""Installation without ROS 2: `pip install .`; in a ROS 2 workspace colcon uses CMakeLists.txt instead."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r"<version>(.+)</version>", (HERE / "package.xml").read_text(encoding="utf-8"))[1]
SHARE = "share/superpoint_ros"
BAGS = ["rosbags>=0.10.9"]
DDS = ["cyclonedds>=0.10.5", *BAGS]
OPENVINO = ["openvino>=2024.4"]
# There are wheels for these processors and Python 3.10 to 3.14; elsewhere the network runs in PyTorch.
HAS_OPENVINO = (
    "(platform_machine == 'x86_64' or platform_machine == 'AMD64' or platform_machine == 'aarch64' "
    "or platform_machine == 'arm64') and python_version < '3.15'"
)
VIDEO = ["av>=12"]
COLMAP, HLOC = ["pycolmap>=4.0"], ["h5py>=3.8"]
ONNX = ["onnx>=1.14", "onnxruntime>=1.16"]


def files(folder: str) -> list[str]:
    """Every file of a folder of the project, as data_files wants them."""
    return [f"{folder}/{path.name}" for path in sorted((HERE / folder).iterdir()) if path.is_file()]


setup(
    name="superpoint_ros",
    version=VERSION,
    description="SuperPoint visual front end: keypoints, descriptors and homographies, with and without ROS 2",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["superpoint_ros", "superpoint_ros.*"]),
    package_data={"superpoint_ros": ["extraction/pretrained/*", "training/recipes/*", "py.typed"]},
    data_files=[
        (SHARE, ["package.xml"]),
        *[(f"{SHARE}/{folder}", files(folder)) for folder in ("msg", "config", "launch")],
        (f"{SHARE}/rtabmap", files("scripts/rtabmap")),
    ],
    install_requires=[
        "numpy>=1.23",
        "opencv-python-headless>=4.8",
        *[f"{requirement}; {HAS_OPENVINO}" for requirement in OPENVINO],
        "poselib>=2.0.4",
        "pyyaml>=6",
        "rich>=13",
        "safetensors>=0.4",
        "threadpoolctl>=3.1",
        "torch>=2.1",
    ],
    extras_require={
        "standalone": DDS,
        "bag": BAGS,
        "bench": [*DDS, *ONNX, "matplotlib>=3.8", "transformers>=4.50"],
        "colmap": COLMAP,
        "demo": [*DDS, "scikit-image>=0.22"],
        "hloc": HLOC,
        "odometry": [*DDS, "gtsam>=4.3", "scipy>=1.10"],
        "openvino": OPENVINO,
        "onnxruntime": ONNX,
        "evaluate": ["evo>=1.20", "matplotlib>=3.8", "scipy>=1.10"],
        "fetch": ["pooch>=1.6"],
        "plot": ["matplotlib>=3.8"],
        "view": ["rerun-sdk>=0.23", *DDS],
        "ray": ["ray>=2.10"],
        "video": VIDEO,
        "train": ["lightning>=2.2", "pydantic>=2.5", *BAGS, "tensorboard>=2.12", "tqdm>=4.60"],
        # lark, packaging and psutil are what ROS 2's own Python packages take from the system.
        "test": [
            *COLMAP,
            *HLOC,
            *ONNX,
            *VIDEO,
            "foxglove-sdk>=0.30; platform_machine == 'x86_64' or platform_machine == 'aarch64'",
            "lark",
            "matplotlib>=3.8",
            "packaging",
            "pooch>=1.6",
            "psutil",
            "pytest>=7,<9",
            "pytest-xdist>=3.5",
            "rerun-sdk>=0.23",
            "transformers>=4.50",
        ],
        "lint": ["mypy>=1.10", "pre-commit>=3", "ruff>=0.6"],
    },
    entry_points={"console_scripts": ["superpoint-ros = superpoint_ros.cli:main"]},
    zip_safe=False,
)
