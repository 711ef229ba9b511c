"""evaluate: score stored waveforms under named protocols."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation import protocols, sensitivity, vital_signs
from evaluation.protocols import Protocol
from evaluation.table import metrics_markdown
from evaluation.waveforms import read_waveforms, training_of
from utils.config import validate
from utils.errors import UserError
from utils.files import read_json, safe_name, write_json, write_text
from utils.runlog import say
from utils.settings import Evaluation

if TYPE_CHECKING:
    from dataset.split import Parts


def evaluate(args: argparse.Namespace) -> int:
    """Write metrics.<protocol>.json for every protocol; no network is run.

    With several protocols also sensitivity.md, .csv and .json: the same waveforms under each. Vital signs,
    which no protocol changes, are worked out for a single one only.
    """
    target = Path(args.target)
    file = target / "waveforms.h5" if target.is_dir() else target
    if not file.exists():
        raise UserError(f"{file}: not there; give a run folder that was evaluated, or a waveform file")
    if args.report and (not target.is_dir() or args.out):
        raise UserError("--report: only for a run folder, and without --out")
    settings, parts, seed = _run_facts(target)
    chosen = _protocols(args.protocol, settings)
    missing = {name: parts.parts[name].missing for name in parts.test_names()} if parts else {}
    waveforms, attributes = read_waveforms(file)
    signs = {}
    if settings.vital_signs and len(chosen) == 1:
        signs = vital_signs.by_part(waveforms, settings.vital_signs_preset, missing=missing)
    out = Path(args.out) if args.out else file.parent
    out.mkdir(parents=True, exist_ok=True)
    scored: dict[str, dict[str, Any]] = {}
    for protocol in chosen:
        # the run's window belongs to the run's protocol: another one that is asked for is that one, unchanged
        window_s = settings.window_s if protocol.name == settings.protocol else None
        metrics = protocols.score(
            waveforms, protocol, window_s=window_s, bootstrap=settings.bootstrap, seed=seed,
            constant_bpm=attributes.get("constant_bpm"), missing=missing, with_windows=False,
        )
        vital_signs.attach(metrics, signs)
        if parts:
            metrics["split"] = parts.about()
            metrics |= {"training": training_of(attributes), "published_as": attributes.get("published_as")}
        write_json(out / f"metrics.{protocol.name}.json", metrics)
        scored[protocol.name] = metrics
    if len(scored) == 1:
        say(metrics_markdown(metrics, full=args.full) + "\n")
    else:
        _write_sensitivity(scored, out)
    if args.report:
        from evaluation.report import write_report  # brings in the figures, which scoring needs not wait for

        write_report(target)
        say(f"renewed: {target / 'report.html'}")
    return 0


def _protocols(asked: list[str], settings: Evaluation) -> list[Protocol]:
    """The protocols of these names, each once; "all": every preset and every own one."""
    names = protocols.names(settings.protocols) if "all" in asked else asked
    return [protocols.get(safe_name(name), settings.protocols) for name in dict.fromkeys(names)]


def _write_sensitivity(scored: dict[str, dict[str, Any]], out: Path) -> None:
    """sensitivity.md, .csv and .json; the tables are printed as well."""
    tables = sensitivity.tables(scored)
    text = "\n\n".join(table.markdown() for table in tables)
    write_text(out / "sensitivity.md", text + "\n")
    write_text(out / "sensitivity.csv", tables[0].csv())
    write_json(out / "sensitivity.json", sensitivity.as_json(scored))
    say(f"{text}\n\nin {out}: sensitivity.md, sensitivity.csv, sensitivity.json and metrics.<protocol>.json")


def _run_facts(target: Path) -> tuple[Evaluation, Parts | None, int]:
    """Evaluation settings, split and seed of a run folder; defaults for a bare file."""
    if not (target / "params.json").exists():
        return Evaluation(), None, 0
    from dataset.split import Parts  # brings in torch, which a bare waveform file needs not wait for

    config = validate(read_json(target / "params.json"), str(target / "params.json"))
    parts = Parts.from_json(read_json(target / "split.json"), str(target / "split.json"))
    return config.evaluation, parts, config.run.seed
