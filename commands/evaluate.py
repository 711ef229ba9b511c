"""evaluate: score stored waveforms under named protocols."""

from __future__ import annotations

import argparse
from pathlib import Path

from dataset.split import Parts
from evaluation import protocols
from evaluation.table import metrics_markdown
from evaluation.waveforms import read_waveforms
from utils.config import validate
from utils.errors import UserError
from utils.files import read_json, safe_name, write_json
from utils.runlog import say
from utils.settings import Evaluation


def evaluate(args: argparse.Namespace) -> int:
    """Write metrics.<protocol>.json for every protocol; no network is run."""
    target = Path(args.target)
    file = target / "waveforms.h5" if target.is_dir() else target
    if not file.exists():
        raise UserError(f"{file}: not there; give a run folder that was evaluated, or a waveform file")
    out = Path(args.out) if args.out else file.parent
    settings, parts, seed = _run_facts(target)
    missing = {name: parts.parts[name].missing for name in parts.test_names()} if parts else {}
    chosen = [protocols.get(safe_name(name), settings.protocols) for name in args.protocol]
    waveforms, attributes = read_waveforms(file)
    out.mkdir(parents=True, exist_ok=True)
    for protocol in chosen:
        metrics = protocols.score(
            waveforms, protocol, window_s=settings.window_s, bootstrap=settings.bootstrap, seed=seed,
            constant_bpm=attributes.get("constant_bpm"), missing=missing,
        )
        metrics.pop("windows")
        if parts:
            metrics["split"] = parts.about()
        write_json(out / f"metrics.{protocol.name}.json", metrics)
        say(metrics_markdown(metrics) + "\n")
    return 0


def _run_facts(target: Path) -> tuple[Evaluation, Parts | None, int]:
    """Evaluation settings, split and seed of a run folder; defaults for a bare file."""
    if not (target / "params.json").exists():
        return Evaluation(), None, 0
    config = validate(read_json(target / "params.json"), str(target / "params.json"))
    parts = Parts.from_json(read_json(target / "split.json"), str(target / "split.json"))
    return config.evaluation, parts, config.run.seed
