"""superpoint-ros match"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superpoint_ros.commands import mapping
from superpoint_ros.commands.arguments import EXTRACTION, Misuse, add_parameters

if TYPE_CHECKING:
    from superpoint_ros import EpipolarGeometry, Features, Homography, Matches

_OPTIONS = (*EXTRACTION, "match.min_similarity", "match.ratio", "match.rotation", "homography.method",
            "homography.threshold", "homography.min_inliers")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="two image files; with --format image files, folders of images, one recording (a ROS bag) or video",
    )
    parser.add_argument(
        "--format",
        default="",
        choices=("hloc", "colmap"),
        help="match many images: hloc's features.h5, matches.h5 and pairs.txt, or a COLMAP database.db with verified "
        "two-view geometries",
    )
    parser.add_argument(
        "-o",
        "--out",
        default="",
        help="image file to draw the matches of two images into; with --format the output folder (default: matches)",
    )
    parser.add_argument("--json", action="store_true", help="print matches, homography and fundamental matrix as JSON")
    mapping.add_image_arguments(parser)
    mapping.add_pair_arguments(parser)
    add_parameters(parser, _OPTIONS)


def run(options: argparse.Namespace) -> int:
    from superpoint_ros import estimate_epipolar, estimate_homography, match
    from superpoint_ros.features import explained, matched_points
    from superpoint_ros.io.images import read_colour
    from superpoint_ros.node import interface
    from superpoint_ros.node.settings import superpoint_from_parameters

    mapping.check_options(options)
    values: dict[str, Any] = interface.checked({name: getattr(options, name) for name in _OPTIONS})
    tests = {
        "min_similarity": values["match.min_similarity"],
        "ratio": values["match.ratio"],
        "rotation": values["match.rotation"],
    }
    if options.format:
        options.out = options.out or "matches"
        return mapping.run_match(options, {name: values[name] for name in EXTRACTION}, tests)
    if len(options.images) != 2:
        raise Misuse(f"{len(options.images)} images are named, allowed are two, or more with --format")
    superpoint = superpoint_from_parameters(values)
    images = [read_colour(path, options.max_pixels) for path in options.images]
    first, second = (superpoint.extract(image) for image in images)
    matches = match(first, second, **tests)
    homography = estimate_homography(
        first,
        second,
        matches,
        method=values["homography.method"],
        threshold=values["homography.threshold"],
        min_inliers=values["homography.min_inliers"],
        images=(images[0], images[1]),
    )
    points = matched_points(first, second, matches)
    epipolar = estimate_epipolar(*points, homography)
    if options.out:
        _draw(Path(options.out), images, first, second, matches, explained(homography, epipolar))
    summary = _summary(first, second, matches, homography, epipolar)
    if options.json:
        details = {"points_a": points[0].tolist(), "points_b": points[1].tolist()}
        flags = {"inliers": homography.inliers.tolist(), "epipolar_inliers": epipolar.inliers.tolist()}
        print(json.dumps({**summary, **details, "similarity": matches.similarity.tolist(), **flags}))
    else:
        print(_in_words(summary))
    return 0


def _summary(
    first: Features, second: Features, matches: Matches, homography: Homography, epipolar: EpipolarGeometry
) -> dict[str, Any]:
    return {
        "keypoints": [len(first), len(second)],
        "matches": len(matches),
        "status": homography.status.name,
        "homography": homography.matrix.tolist(),
        "inlier_count": homography.inlier_count,
        "rmse": homography.rmse,
        "scene": epipolar.scene.name,
        "fundamental": epipolar.fundamental.tolist(),
        "epipolar_inlier_count": epipolar.inlier_count,
    }


def _in_words(found: dict[str, Any]) -> str:
    lines = [f"{found['keypoints'][0]} and {found['keypoints'][1]} keypoints, {found['matches']} matches"]
    if found["status"] == "OK":
        lines.append(f"homography from A to B: {found['inlier_count']} inliers, rmse {found['rmse']:.2f} px")
        lines += ["  " + " ".join(f"{value:12.6g}" for value in row) for row in found["homography"]]
    else:
        lines.append(f"no homography: {found['status']}")
    lines.append(f"scene: {found['scene']}")
    if found["scene"] == "GENERAL":
        lines.append(f"fundamental matrix: {found['epipolar_inlier_count']} inliers")
        lines += ["  " + " ".join(f"{value:12.6g}" for value in row) for row in found["fundamental"]]
    return "\n".join(lines)


def _draw(out: Path, images: list[Any], first: Features, second: Features, matches: Matches, inliers: Any) -> None:
    import cv2

    from superpoint_ros.io.images import write_image
    from superpoint_ros.node.overlay import draw_matches

    if not out.suffix or not cv2.haveImageWriter(str(out)):
        raise ValueError(f"--out is '{out}', allowed is a file name with an image format's suffix, such as .png")
    out.parent.mkdir(parents=True, exist_ok=True)
    canvas = draw_matches((images[0], images[1]), (first, second), matches, inliers)
    write_image(out, canvas)
