"""One experiment for every seed, on a synthetic set of its own, and what that comes to over the seeds."""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import RESULTS
from dataset.index import RecordingInfo
from dataset.reader import StoreClips
from evaluation import protocols
from evaluation.infer import infer
from evaluation.waveforms import RecordingWaveform
from nets.methods.base import Method
from utils.config import load
from utils.contracts import InputSpec
from utils.files import parse_json, read_json, to_json, write_json
from utils.runlog import say

ROOT = Path(__file__).resolve().parent.parent


def parser(about: str | None, seeds: Sequence[int] = (1, 2, 3), out: Path = RESULTS,
           setting: str = "section.key=value") -> argparse.ArgumentParser:
    """The options that these benchmarks share; about: the module's docstring; setting: what --set takes."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    made.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    made.add_argument("--set", dest="overrides", action="append", default=[], metavar=setting)
    made.add_argument("--work", type=Path, help="keep sets, runs and finished seeds here; go on from there")
    made.add_argument("--out", type=Path, default=out)
    return made


def call(*words: object, settings: Mapping[str, object] | None = None, overrides: Iterable[str] = ()) -> None:
    """`main.py` with these words, settings and overrides, of which the later win.

    What it says is not shown; CalledProcessError where it fails.
    """
    told = [*(f"{key}={value}" for key, value in (settings or {}).items()), *overrides]
    command = [*map(str, words), *(word for text in told for word in ("--set", text))]
    subprocess.run([sys.executable, "main.py", *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def new_set(folder: Path, seed: int, *words: object) -> dict[str, object]:
    """Make the synthetic set of a seed in `folder`: the settings of a run that learns from it.

    words: further ones for `synthesise`.
    """
    raw = folder / "raw"
    call("synthesise", raw, "--seed", seed, *words)
    return {"data.sets.0.root": raw, "data.store": folder / "store", "split.file": raw / "lists.json",
            "run.output": folder / "runs", "run.seed": seed}


def over_seeds(seeds: Sequence[int], work: Path | None, asked: Mapping[str, Any],
               one_seed: Callable[[int, Path], Any]) -> Iterator[dict[str, Any]]:
    """Make `one_seed(seed, folder)` of every seed; after each, the results of all so far, by seed.

    work: keeps folders and results, and a result that is there is not made again; None: nothing is kept.
    asked: what the results depend on beside the seed; SystemExit where a kept one was made with another.
    """
    found: dict[str, Any] = {}
    for seed in seeds:
        say(f"seed {seed}")
        with tempfile.TemporaryDirectory() as spare:
            folder = (work or Path(spare)).resolve() / f"seed{seed}"
            kept = folder / "result.json"
            if not kept.exists():
                folder.mkdir(parents=True, exist_ok=True)
                write_json(kept, {"asked": asked, "result": one_seed(seed, folder)})
            told = read_json(kept)
        if told.get("asked") != parse_json(to_json(asked), "asked"):
            raise SystemExit(f"{kept} was made with other settings than are asked for now; remove it, "
                             "or name another folder with --work")
        found[str(seed)] = told["result"]
        yield found


def recipe(path: str, *sections: str) -> dict[str, Any]:
    """These sections of a params file of this repository, complete."""
    whole = load(ROOT / path, [], []).model_dump(mode="json")
    return {name: whole[name] for name in sections}


def rows_of(run: Path) -> dict[str, dict[str, Any]]:
    """A run's results on the test people, by method."""
    return {row["method"]: row for row in read_json(run / "metrics.json")["rows"]}


def logged(run: Path, event: str | None = None) -> list[dict[str, Any]]:
    """The lines of a run's log, or those that tell of one kind of event."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if event in (None, line["event"])]


def judged(method: Method, infos: Iterable[RecordingInfo], spec: InputSpec | None = None
           ) -> tuple[dict[str, Any], list[RecordingWaveform]]:
    """A method's answers for recordings, read as `spec` says, and their row by the default protocol."""
    waves = infer({"answer": method}, [StoreClips(info, spec or method.input_spec) for info in infos])
    return protocols.score(waves, "default", bootstrap=0)["rows"][0], waves


def spread(values: Iterable[float | None]) -> tuple[float | None, float | None, int]:
    """Mean and SD (n - 1) of the values that exist, and how many do; None where there are too few."""
    known = [value for value in values if value is not None]
    return (float(np.mean(known)) if known else None,
            float(np.std(known, ddof=1)) if len(known) > 1 else None, len(known))


def with_sd(mean: float | None, sd: float | None) -> str:
    """"0.12 +- 0.03"; without what does not exist."""
    return "" if mean is None else f"{mean:.2f}" + ("" if sd is None else f" +- {sd:.2f}")


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Rows of cells as CSV text."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
