"""Measure the speed on a GPU, compared with transformers and plain PyTorch: needs only PyTorch, NumPy and OpenCV.

    python benchmarks/gpu.py --out results/            # about ten minutes on a CUDA device
    python benchmarks/gpu.py --subjects cuda_graph- pytorch-   # a few minutes, without compiling kernels
    python benchmarks/gpu.py --device cpu --quick      # a trial on the CPU

Prints tables and a comparison with the package's targets; `--out` also writes results.json after every case, so that
nothing is lost if the machine goes away, and results.md. transformers is measured if it is installed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SIZES = ["320x240", "640x480", "752x480", "1241x376", "1280x720", "1920x1080"]
SUBJECTS = ["cuda_graph-", "cuda_graph_compiled-float16", "pytorch", "transformers", "plain-pytorch"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N or cpu (default: %(default)s)")
    parser.add_argument("--sizes", nargs="+", metavar="WxH", help=f"(default: {' '.join(SIZES)})")
    parser.add_argument("--batches", nargs="+", type=int, metavar="N", help="(default: 1 2 4 8)")
    parser.add_argument("--grid", action="store_true", help="every batch at every size, not at 640x480 only")
    parser.add_argument("--subjects", nargs="+", default=SUBJECTS, metavar="NAME", help="(default: all)")
    parser.add_argument("--weights", default="default", help="known name or file (default: %(default)s)")
    parser.add_argument("--rounds", type=int, help="turns of each subject (default: 10)")
    parser.add_argument("--quick", action="store_true", help="by default 320x240 only, batches of 1 and 2, 2 rounds")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for results.json and results.md")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout instead of tables")
    options = parser.parse_args()
    try:
        return measure(options)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError) as error:
        print(f"gpu.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def measure(options: argparse.Namespace) -> int:
    """Run the benchmark, report, and return the exit code."""
    from superpoint_ros.benchmark.plan import Plan
    from superpoint_ros.benchmark.report import markdown
    from superpoint_ros.benchmark.run import run
    from superpoint_ros.extraction.runtimes import choose_device
    from superpoint_ros.io.files import write_text

    if choose_device(options.device).type == "cpu":
        options.subjects = [name for name in options.subjects if not name.startswith("cuda_graph")]
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()

    def progress(text: str) -> None:
        print(f"{time.monotonic() - begin:7.1f} s  {text}", file=sys.stderr, flush=True)

    def keep(results: dict[str, Any]) -> None:
        if options.out:
            write_text(options.out / "results.json", json.dumps(results, indent=2) + "\n")

    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(
            sizes=options.sizes or (["320x240"] if options.quick else SIZES),
            batches=options.batches or ([1, 2] if options.quick else [1, 2, 4, 8]),
            grid=options.grid,
            subjects=options.subjects,
            weights=convert_weights(options.weights, Path(folder)),
            device=options.device,
            rounds=options.rounds or (2 if options.quick else 10),
            seconds=60,
            ceiling_seconds=0.05 if options.quick else 0.4,
            extras=("kernels",) if options.quick else ("memory", "energy", "kernels"),
        )
        results = run(plan, progress, keep)
    text = markdown(results) + "\n" + targets(results)
    if options.out:
        write_text(options.out / "results.md", text)
    print(json.dumps(results) if options.json else text)
    return 0


def convert_weights(weights: str, folder: Path) -> str | Path:
    """Convert the weights to a PyTorch file if the package safetensors is missing; return their name or path."""
    try:
        import safetensors  # noqa: F401
    except ImportError:
        pass
    else:
        return weights
    import torch

    from superpoint_ros.extraction.weights import KNOWN

    path = KNOWN[weights][0] if weights in KNOWN else Path(weights)
    if path.suffix != ".safetensors":
        return weights
    copy = folder / f"{path.stem}.pth"
    torch.save(read_safetensors(path), copy)
    return copy


def read_safetensors(path: Path) -> dict[str, Any]:
    """Read tensors by name: 8 bytes of length, JSON of that length with types, shapes and offsets, then the data."""
    import torch

    types = {"F16": torch.float16, "F32": torch.float32}
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            first, last = (start + offset for offset in entry["data_offsets"])
            numbers = torch.frombuffer(bytearray(data[first:last]), dtype=types[entry["dtype"]])
            tensors[name] = numbers.reshape(entry["shape"])
    return tensors


def targets(results: dict[str, Any]) -> str:
    """Compare the fastest subjects at 640x480 with the targets on an H100, which are for the default weights."""
    from superpoint_ros.benchmark.subjects import LIGHT

    lines = ["## Targets at 640x480 on an H100", ""]
    for case in results["cases"]:
        if (case["width"], case["height"]) != (640, 480) or case["batch"] not in (1, 8):
            continue
        groups = results["subjects"]
        ours = {
            name: figures
            for name, figures in case["subjects"].items()
            if groups[name]["group"] == "superpoint_ros" and not name.startswith(LIGHT)
        }
        if not ours:
            continue
        if case["batch"] == 1:
            name, best = min(ours.items(), key=lambda item: item[1]["with_matching"]["median"])
            lines.append(f"* detection, matching and homography: {best['with_matching']['median']:.3f} ms ({name})")
            name, best = min(ours.items(), key=lambda item: item[1]["extract"]["median"])
            lines.append(
                f"* detection, with cuda_graph also matching: {best['extract']['median']:.3f} ms ({name}), target: < 1"
            )
            if "times_transformers" in best:
                lines.append(f"* times transformers: {best['times_transformers']:.1f} ({name}), target: at least 8")
        else:
            name, best = max(ours.items(), key=lambda item: item[1]["images_per_second"])
            lines.append(f"* batch 8: {best['images_per_second']:.0f} images/s ({name}), target: over 4000")
    return "\n".join([*lines, ""]) if len(lines) > 2 else ""


if __name__ == "__main__":
    sys.exit(main())
