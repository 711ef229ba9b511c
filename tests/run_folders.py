"""Finished run folders written by hand: no network, no waveform, only the files that tables read."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation import presets
from evaluation.window_rows import COLUMNS

Errors = Mapping[str, Sequence[float]]


def protocol(name: str = "default", **changes: Any) -> dict[str, Any]:
    """The protocol section of metrics.json."""
    stored = presets.build(name).model_dump(mode="json")
    return {**stored, "bootstrap": 0, "seed": 0, "constant_bpm": 80.0, **changes}


def row(method: str, n: int, **values: float | None) -> dict[str, Any]:
    """One row of metrics.json."""
    numbers = dict.fromkeys(
        ("mae_bpm", "rmse_bpm", "sd_bpm", "me_bpm", "mape_percent", "pearson_r", "snr_db", "macc"), None
    )
    return {
        "method": method,
        **numbers,
        "n": n,
        "n_failed": 0,
        "failed": [],
        "ci95": None,
        "reasons": {"ci95": "none"},
        **values,
    }


def run_folder(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    subjects: Sequence[str],
    *,
    dataset: str = "ubfc_rppg_2",
    trained: Sequence[str] = (),
    seed: int = 0,
    split: Mapping[str, Any] | None = None,
    stored: Mapping[str, Any] | None = None,
    missing: Sequence[str] = (),
    **metrics: Any,
) -> Path:
    """A run folder with one recording a subject; `trained`: keys of the training part's recordings."""
    folder.mkdir(parents=True)
    n = len(subjects)
    test = {
        "datasets": [dataset],
        "n_subjects": n,
        "n_recordings": n,
        "n_windows": n,
        "n_missing": len(missing),
        "missing": list(missing),
        "missing_reasons": dict.fromkeys(missing, "failed"),
        "origins": [],
        "n_unlabelled_windows": 0,
        "bin_bpm": 0.1,
    }
    content = {
        "protocol": {**(stored or protocol()), "seed": seed, "constant_bpm": 80.0 + seed},
        "test": test,
        "rows": list(rows),
        **metrics,
    }
    parts = {
        "train": {
            "subjects": [key.replace(".", "/", 1) for key in trained],
            "recordings": list(trained),
            "missing": [],
        },
        "test": {
            "subjects": [f"{dataset}/{s}" for s in subjects],
            "recordings": [f"{dataset}.{s}" for s in subjects],
            "missing": list(missing),
        },
    }
    params = {
        "data": {"sets": [{"name": dataset, "root": str(folder)}]},
        "net": {"name": "physnet"},
        "method": {"name": "supervised"},
        "split": dict(split or {"scheme": "lists"}),
        "train": {"epochs": 5},
        "run": {"name": folder.name, "seed": seed},
    }
    for name, value in {
        "metrics": content,
        "params": params,
        "split": {"hash": folder.name, "parts": parts},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def write_windows(
    folder: Path,
    errors: Errors,
    dataset: str = "ubfc_rppg_2",
    reference_bpm: float = 70.0,
    failed: str = "",
    units: int = 1,
) -> None:
    """windows.csv of one method "physnet": recordings by subject, each window's error in bpm.

    failed: the subject whose windows failed. units: how many units each first window stands for.
    """
    with open(folder / "windows.csv", "w", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS, restval="")
        writer.writeheader()
        for subject, values in errors.items():
            for index, error in enumerate(values):
                reference = reference_bpm + 5 * index + len(subject)
                writer.writerow(
                    {
                        "part": "test",
                        "recording": f"{dataset}.{subject}",
                        "subject": f"{dataset}.{subject}",
                        "method": "physnet",
                        "start_s": 30 * index,
                        "stop_s": 30 * index + 30,
                        "reference": "label",
                        "reference_bpm": reference,
                        "predicted_bpm": reference + error,
                        "error_bpm": error,
                        "n_units": units if index == 0 else 1,
                        "failed": "no rate" if subject == failed else "",
                    }
                )
