"""What a figure was measured on, and where figures are kept."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "avx512f", "avx2")


def machine(*packages: str) -> dict[str, Any]:
    """Processor, cores, load, python, and the versions of the packages the figure depends on."""
    fields = {}
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line.partition(":") for line in info.read_text(encoding="utf-8").splitlines()]
        fields = {key.strip(): value.strip() for key, _, value in lines}
    return {
        "cpu": fields.get("model name", platform.processor() or "unknown"),
        "cores": len(os.sched_getaffinity(0)),
        "instructions": [flag for flag in INSTRUCTIONS if flag in fields.get("flags", "").split()],
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }
