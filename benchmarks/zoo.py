"""Every entry of the zoo on the real clip with contact PPG: `python -m benchmarks.zoo --source FILE ...`.

The clip is $RPPG_REAL_DATA/video/vitallens_sample_1.mp4. An entry passes with a heart rate within 3 bpm of
the contact PPG's, found by the steps of any prediction. Entries whose file is neither given, installed
nor imported before are named as not checked. The result is kept entry by entry: --only renews some.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import RESULTS, machine
from commands import zoo
from commands.building import set_threads
from commands.imported import Origin
from commands.predict import Predictor, judged, make_crops, of_file, unlike
from dataset.reader import StoreClips
from evaluation.quality import assess
from utils.errors import UserError
from utils.files import digest, read_json, write_json
from utils.runlog import say
from utils.signal import bandpass

CLIP = "vitallens_sample_1"
LIMIT_BPM = 3.0
BAND_HZ = (0.7, 4.0)
LAG_FRAMES = 6
"""How far either way the waveform is shifted to find where it fits the contact PPG best."""


def agreement(waveform: np.ndarray, ppg: np.ndarray, fps: float) -> dict[str, float | int]:
    """Correlation with the contact PPG in the band of the pulse: as it is, and at the best lag of +-6 frames.

    A positive lag: the waveform comes later. Where r is positive, it has the sign of the contact PPG.
    """
    n = len(waveform)
    made, true = bandpass(np.stack([waveform, ppg]), fps, *BAND_HZ)
    lags = range(-LAG_FRAMES, LAG_FRAMES + 1)
    pairs = [(made[max(0, k):n + min(0, k)], true[max(0, -k):n + min(0, -k)]) for k in lags]
    r = [float(np.corrcoef(*pair)[0, 1]) for pair in pairs]
    best = int(np.argmax(np.abs(r)))
    return {"r": round(r[LAG_FRAMES], 3), "best_r": round(r[best], 3), "lag_frames": lags[best]}


def checked(
    predictor: Predictor, origin: Origin, video: Path, ppg: np.ndarray, folder: Path
) -> dict[str, Any]:
    """What one entry gives on the clip; crops are made once for each way of cropping."""
    stored = folder / f"{digest(predictor.preprocessing.model_dump())[:16]}.h5"
    if not stored.exists():
        make_crops(predictor, video, stored)
    clips = StoreClips.from_file(stored, predictor.method.input_spec)
    waveform, time_s, quality, _ = judged(predictor, clips)
    reference = assess(ppg, time_s).heart_rate_bpm
    if reference is None:
        raise UserError(f"{video}: the contact PPG has no heart rate")
    rate = quality.heart_rate_bpm
    return {
        "net": predictor.name, "trained_on": origin.trained_on, "bpm": rate and round(rate, 2),
        "reference_bpm": round(reference, 2), "pass": rate is not None and abs(rate - reference) <= LIMIT_BPM,
        "snr_db": quality.snr_db and round(quality.snr_db, 2), "quality": round(quality.value, 3),
        **agreement(waveform, ppg, clips.fps),
        "warnings": unlike(origin, predictor.method, stored, clips),
    }


def source_of(entry: zoo.Entry, given: list[Path]) -> Path | None:
    """Which of the given files is for an entry: a wheel of its package, or a file of its name."""
    package = (entry.package or "").replace("-", "_")
    for path in given:
        if path.name == entry.origin.file or (package and path.name.startswith(f"{package}-")):
            return path
    return None


def main() -> None:
    """Check every entry, print a line each, and write the result beside the others."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", type=Path, nargs="+", default=[], help="weight files and wheels")
    parser.add_argument("--only", nargs="+", default=None, metavar="NAME")
    parser.add_argument("--out", type=Path, default=RESULTS / "zoo.json")
    args = parser.parse_args()
    data = Path(os.environ["RPPG_REAL_DATA"]) / "video"
    ppg = np.genfromtxt(data / f"{CLIP}_vitals.csv", delimiter=",", names=True)["ppg"]
    set_threads(1)
    rows: dict[str, Any] = read_json(args.out)["entries"] if args.only and args.out.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, entry in zoo.entries().items():
            if args.only and name not in args.only:
                continue
            try:
                predictor = of_file(zoo.resolve(name, source_of(entry, args.source)), None, {})
                rows[name] = checked(predictor, entry.origin, data / f"{CLIP}.mp4", ppg, Path(scratch))
            except UserError as error:
                rows[name] = {"net": entry.recipe.net, "trained_on": entry.origin.trained_on, "bpm": None,
                              "pass": None, "reason": f"not checked: {error}"}
            say(f"{name:20} {json.dumps(rows[name])}")
            write_json(args.out, {
                "clip": CLIP, "limit_bpm": LIMIT_BPM, "entries": rows, "machine": machine("torch"),
            })


if __name__ == "__main__":
    main()
