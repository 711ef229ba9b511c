"""What a figure was measured on, what it looks like in a table, and where figures are kept."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

RESULTS = Path(__file__).parent / "results"
INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "avx512f", "avx2")


@dataclass(frozen=True)
class Row:
    """One figure of `benchmarks.bench`; value: None where it was not measured, and note says why."""

    name: str
    value: float | None
    unit: str
    better: Literal["more", "less"]
    note: str = ""


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


def whole_machine() -> dict[str, Any]:
    """As `machine`, with memory and GPU, and the versions of all that has to do with speed."""
    import torch

    found = machine("torch", "numpy", "scipy", "h5py", "opencv-contrib-python-headless", "mediapipe", "av")
    gpu = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {**found, "memory_gib": round(memory / 2**30), "gpu": gpu.name if gpu else None,
            "gpu_memory_gib": round(gpu.total_memory / 2**30) if gpu else None,
            "cuda": torch.version.cuda}


def kind(about: dict[str, Any]) -> str:
    """The kind of machine that figures can be compared on, as a file name: processor, cores, GPU."""
    words = f"{about['cpu']} {about['cores']} cores {about['gpu'] or ''}"
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
