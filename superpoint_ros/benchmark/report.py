"""Format the results as Markdown tables that are readable in a terminal, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from superpoint_ros.benchmark.stages import STAGES
from superpoint_ros.benchmark.subjects import LIGHT, PLAIN, TRANSFORMERS

Results = Mapping[str, Any]


def markdown(results: Results) -> str:
    """Format the report."""
    parts = ["# Benchmark", _about(results)]
    for case in results["cases"]:
        parts += [f"## {case['label']}", _case(case, results["default"])]
        parts += [f"* {name}: not measured, {reason}" for name, reason in case["failed"].items()]
    parts += _reference(results)
    if lines := summary_lines(results):
        parts += ["## Summary", "\n".join(f"* {line}" for line in lines)]
    if results["left_out"]:
        parts += ["## Not available", "\n".join(f"* {name}: {why}" for name, why in results["left_out"].items())]
    return "\n\n".join(parts) + "\n"


def summary_lines(results: Results) -> list[str]:
    """Summarise the results of the default subject, one sentence each."""
    name, reference = results["default"], results["reference"]
    single = [case for case in results["cases"] if case["batch"] == 1 and name in case["subjects"]]
    size = reference["width"], reference["height"]
    here = next((case for case in single if (case["width"], case["height"]) == size), None)
    if here is None:
        return []
    figures, lines = here["subjects"][name], []
    for peer in (TRANSFORMERS, PLAIN):
        if f"times_{peer}" in figures:
            lines.append(f"{name} is {figures[f'times_{peer}']:.1f} times as fast as {peer} at {here['label']}")
    for light in (other for other in here["subjects"] if other.startswith(LIGHT)):
        if f"times_{TRANSFORMERS}" in (quick := here["subjects"][light]):
            times = quick[f"times_{TRANSFORMERS}"]
            lines.append(f"{light} is {times:.1f} times as fast as {TRANSFORMERS} with the default weights")
    largest = max(single, key=lambda case: case["width"] * case["height"])
    if largest is not here:
        growth = largest["subjects"][name]["ms_per_megapixel"] / figures["ms_per_megapixel"]
        lines.append(f"a megapixel of {largest['label']} costs {growth:.2f} times one of {here['label']}")
    if (decoding := reference["stages"].get(name, {}).get("decode_to_network")) is not None:
        lines.append(f"decoding takes {100 * decoding:.1f} % of the network's time")
    if name in reference["agreement"]:
        lines.append(
            f"{100 * reference['agreement'][name]:.1f} % of its keypoints are those of float32, within a pixel"
        )
    if (reference.get("middleware") or {}).get("float32", {}).get("total"):
        total = reference["middleware"]["float32"]["total"]["median"]
        lines.append(f"a message takes {total:.2f} ms from features to features in another process")
    if "live" in reference:
        share = reference["live"]["share"]
        lines.append(f"the live node reaches {100 * share:.0f} % of the rate expected from the time per frame")
    return lines


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table with aligned columns; the first is left-aligned, the others right-aligned."""
    widths = [max(len(row[index]) for row in (heads, *rows)) for index in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(heads), line(rule), *map(line, rows)])


def _about(results: Results) -> str:
    m = results["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in m["packages"].items())
    limit = f", oneDNN limited to {m['oneDNN_isa_limit']}" if m["oneDNN_isa_limit"] else ""
    ceiling = ", ".join(f"{name} {value / 1e9:,.0f}" for name, value in results["ceiling"].items())
    lines = [
        f"{m['date']}, {m['processor']} ({m['instructions']}{limit}), {m['processors_usable']} usable processors, "
        f"{m['threads']} threads, device {m['device']}, load average {m['load_average']} at the start",
        f"Python {m['python']}, {packages}",
        f"weights {results['weights']}, images: {results['pictures']}, at most {results['rules']['max_keypoints']} "
        f"keypoints, {results['rounds']} rounds, default subject {results['default']} (marked *)",
        f"matrix product ceiling, GFLOP/s: {ceiling}",
    ]
    return "\n".join(f"* {line}" for line in lines)


def _case(case: Mapping[str, Any], default: str) -> str:
    peers = [peer for peer in (TRANSFORMERS, PLAIN) if peer in case["subjects"]]
    heads = ["subject", "median ms", "p10", "p90", "p95", "CPU ms", "images/s", "ms/MP",
             *(f"x {peer}" for peer in peers), "with matching ms", "keypoints", "matches", "inliers",
             "samples"]  # fmt: skip
    rows = []
    for name, f in case["subjects"].items():
        times = [f"{f['extract'][key]:.1f}" for key in ("median", "p10", "p90", "p95")]
        ratios = [f"{f[f'times_{peer}']:.2f}" for peer in peers]
        counts = [str(f[key]) for key in ("keypoints", "matches", "inliers")]
        row = [name + (" *" if name == default else ""), *times, f"{f['processor']['median']:.1f}"]
        row += [f"{f['images_per_second']:.1f}"]
        row += [f"{f['ms_per_megapixel']:.1f}", *ratios, f"{f['with_matching']['median']:.1f}", *counts]
        rows.append([*row, str(f["extract"]["samples"])])
    return table(heads, rows)


def _reference(results: Results) -> list[str]:
    r = results["reference"]
    parts = [f"## Stages at {r['width']}x{r['height']}", _stages(r)] if r["stages"] else []
    if f := r.get("refinement"):
        parts.append(
            f"Refining {f['points']} keypoints on an image takes {f['numpy_ms']:.2f} ms in NumPy and "
            f"{f['tensor_ms']:.2f} ms in PyTorch on the device."
        )
    heads = ["subject", "same keypoints", "peak memory MB", "CUDA MB", "J/image"]
    energy = (r.get("energy") or {}).get("joules_per_image", {})
    rows = []
    for name in results["subjects"]:
        if name in results["left_out"]:
            continue
        memory = (r.get("memory_mb") or {}).get(name) or {}
        cells = [_number(r["agreement"].get(name), ".3f"), _number(memory.get("resident"), ",.0f")]
        rows.append([name, *cells, _number(memory.get("cuda"), ",.0f"), _number(energy.get(name), ".2f")])
    parts += [f"## Agreement, memory and energy at {r['width']}x{r['height']}", table(heads, rows)]
    meter = (
        r["energy"]["meter"]
        if r.get("energy")
        else "not available on this machine"
        if "energy" in r
        else "not requested"
    )
    parts.append(f"Energy: {meter}.")
    for name, kernels in r.get("kernels", {}).items():
        rows = [
            [k["name"], f"{k['calls']:.1f}", f"{k['milliseconds']:.3f}", f"{100 * k['share']:.0f} %"] for k in kernels
        ]
        parts += [f"## Kernels of {name}", table(["kernel or operator", "calls", "ms", "share"], rows)]
    if "middleware" in r:
        parts += [f"## Messages of {r['middleware']['keypoints']} keypoints", messages(r["middleware"])]
    if "live" in r:
        parts += ["## The live node", _live(r["live"])]
    parts += [f"* {name}: not measured, {why}" for name, why in r["extras_left_out"].items()]
    return parts


def _stages(reference: Mapping[str, Any]) -> str:
    heads = ["subject", *(f"{name} ms (share)" for name in STAGES), "decode/network", "network GFLOP/s", "of ceiling"]
    rows = []
    for name, f in reference["stages"].items():
        times = [
            f"{f['milliseconds'][stage]:.2f} ({100 * f['share'][stage]:.0f} %)" if stage in f["share"] else "-"
            for stage in STAGES
        ]
        speed = _number(f.get("operations_per_second"), ",.0f", 1e-9)
        row = [name, *times, _number(f.get("decode_to_network"), ".3f"), speed]
        rows.append([*row, _number(f.get("share_of_ceiling"), ".2f")])
    return table(heads, rows)


def messages(found: Mapping[str, Any]) -> str:
    """Format the results of `middleware.measure_middleware` as a table."""
    steps = ("fill", "serialise", "publish", "deserialise", "total")
    heads = ["descriptors", "bytes", "received", *(f"{step} ms" for step in steps), "total p95 ms"]
    rows = []
    for kind in ("float32", "float16"):
        f = found[kind]
        times = [_number((f[step] or {}).get("median"), ".2f") for step in steps]
        row = [kind, f"{f['bytes']:,}", f"{f['received']} of {f['sent']}", *times]
        rows.append([*row, _number((f["total"] or {}).get("p95"), ".2f")])
    return table(heads, rows)


def _live(f: Mapping[str, Any]) -> str:
    return (
        f"{f['rate_hz']:.1f} features messages per second from a camera at {f['camera_hz']:.1f} Hz. Interleaved, "
        f"a frame took {f['frame_ms']:.1f} ms in process, matching and messages included; with "
        f"{f['camera_and_subscriber_ms_per_frame']:.1f} ms of CPU time per frame for camera and subscriber the "
        f"expected rate is {f['expected_hz']:.1f} (share {f['share']:.2f}). Image to received features: median "
        f"{f['latency']['median']:.1f} ms, 95 % within {f['latency']['p95']:.1f} ms."
    )


def _number(value: float | None, form: str, factor: float = 1.0) -> str:
    return "-" if value is None else format(value * factor, form)
