"""Locate the package's resources (messages, launch files, configuration) in a checkout or an installation."""

from __future__ import annotations

from pathlib import Path


def share_directory() -> Path:
    """Return the folder that holds msg/, launch/ and config/.

    Raises:
        FileNotFoundError: if the package was installed without them.
    """
    here = Path(__file__).resolve()
    checkout = here.parent.parent.parent
    if (checkout / "package.xml").is_file() and (checkout / "msg").is_dir():
        return checkout
    for parent in here.parents:
        if (parent / "share" / "superpoint_ros" / "msg").is_dir():
            return parent / "share" / "superpoint_ros"
    raise FileNotFoundError(
        f"the files of superpoint_ros (msg, config) are not installed beside '{here.parent.parent}'"
    )
