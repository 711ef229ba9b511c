"""A run folder: opened, recognised, locked and finished."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files import read_json, remove_leftovers, write_json
from utils.settings import RunConfig

# A run may be continued although these changed: they do not touch its results.
FREE_TO_CHANGE = {
    "run.output", "run.device", "run.verify", "run.save_model", "data.store", "data.workers", "data.keep",
    "preprocessing.enabled", "preprocessing.workers", "preprocessing.cluster", "preprocessing.timeout_s",
    "preprocessing.allow_failed", "preprocessing.verify", "train.checkpoint_steps", "logging",
}
BEGINNING = re.compile(r"\.lock|\.params\.json\.\d+\.tmp")
"""What a run that was killed at once leaves."""
PACKAGES = ("torch", "numpy", "scipy", "h5py", "opencv-contrib-python-headless", "mediapipe", "pydantic")


class RunFolder:
    """`runs/<name>` of one config."""

    def __init__(self, config: RunConfig) -> None:
        """Nothing is created before `opened`."""
        self.config = config
        self.path = Path(config.run.output) / config.run.name

    @property
    def finished(self) -> bool:
        """Whether everything was written."""
        return (self.path / "finished.json").exists()

    @contextmanager
    def opened(self, must_exist: bool = False) -> Iterator[Path]:
        """Create or continue the folder, alone; refuses one that was made with other params, or is no run."""
        params = self.path / "params.json"
        if must_exist and not params.exists():
            raise UserError(f"{self.path}: there is no run to resume")
        self.path.mkdir(parents=True, exist_ok=True)
        self._refuse_foreign(params)
        with open(self.path / ".lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(f"{self.path}: another process is working on this run") from None
            remove_leftovers(self.path)
            if (self.path / "split.json").exists():  # before that nothing depends on the params
                self._refuse_other(read_json(params), str(params))
            write_json(params, self.config.model_dump(mode="json"))
            yield self.path

    def _refuse_foreign(self, params: Path) -> None:
        """UserError where the folder holds anything and is no run: its files must not be taken for one's."""
        names = [name for name in os.listdir(self.path) if not BEGINNING.fullmatch(name)]
        try:
            stored = read_json(params) if params.name in names else None
        except UserError:
            stored = None
        if names and not (isinstance(stored, dict) and set(RunConfig.model_fields) <= set(stored)):
            raise UserError(f"{self.path}: holds files, such as {min(names)}, and is not a run's folder; "
                            "choose another run.name or run.output, or move them away")

    def _refuse_other(self, before: Any, origin: str) -> None:
        """Raise UserError naming every setting that differs, with both values."""
        now = flatten(self.config.model_dump(mode="json"))
        then = flatten(before if isinstance(before, dict) else {})
        changed = [key for key in sorted({*now, *then}) if now.get(key) != then.get(key)]
        fixed = [key for key in changed if not _free(key)]
        if fixed:
            lines = [f"  {key}: {then.get(key)!r} there, {now.get(key)!r} now" for key in fixed]
            raise UserError("\n".join([
                f"{origin}: this run was made with other params:", *lines,
                "choose another run.name (net.init_from lets it start from this one), or delete the folder",
            ]))

    def finish(self, **facts: Any) -> None:
        """Mark the run as finished."""
        write_json(self.path / "finished.json", facts)


def _free(key: str) -> bool:
    return key in FREE_TO_CHANGE or key.partition(".")[0] in FREE_TO_CHANGE


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}; lists stay whole."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat.update(flatten(inner, f"{path}.{key}" if path else key))
    return flat


def environment(device: Any, threads: int, amp: str, config: RunConfig) -> dict[str, Any]:
    """What the bits of a result depend on besides the params."""
    import torch

    from training import ranks

    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": str(device),
        "amp": amp,
        "deterministic": config.train.deterministic,
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    if ranks.count() > 1:
        shared = config.train.sync_batch_norm
        facts["processes"] = ranks.count()
        facts["batch_statistics"] = "over all processes" if shared else "each process's own"
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"], facts["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
        facts["tf32"] = torch.backends.cudnn.allow_tf32
    if not config.train.deterministic or config.train.compile:
        facts["note"] = "identity of repeated runs is not claimed with these settings"
    return facts


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            for line in handle:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        return platform.processor() or "unknown"
    return platform.processor() or "unknown"
