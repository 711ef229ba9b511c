"""MATLAB files whose bytes depend on their content only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import scipy.io

HEADER = b"MATLAB 5.0 MAT-file, Platform: GLNXA64, Created on: Mon Jan  3 10:00:00 2022"


def write_mat(path: Path, values: dict[str, Any], compress: bool = False) -> None:
    """Write a version 5 file; scipy alone would put the time of writing into it."""
    scipy.io.savemat(path, values, do_compression=compress)
    with open(path, "r+b") as handle:
        handle.write(HEADER.ljust(116))
