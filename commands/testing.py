"""The evaluation stage: waveforms once, then metrics, table and report."""

from __future__ import annotations

from pathlib import Path

from commands.attention import write_attention
from commands.building import classical_methods
from commands.lineage import Learned, learned
from dataset.frames import Frames
from dataset.index import RecordingInfo, mean_rate_bpm
from dataset.reader import StoreClips
from dataset.split import Parts
from evaluation import protocols, vital_signs
from evaluation.infer import infer
from evaluation.report import write_report
from evaluation.table import main_markdown, metrics_markdown
from evaluation.waveforms import RecordingWaveform, read_waveforms, training_of, write_waveforms
from nets.methods.base import Method
from utils.files import write_json, write_text
from utils.runlog import say
from utils.settings import RunConfig


def test(
    config: RunConfig, folder: Path, method: Method, infos: dict[str, RecordingInfo], parts: Parts
) -> bool:
    """Predict every test recording, store the waveforms, score and report them.

    False where the net could not be scored on a single one.
    """
    waveforms = predict_parts(config, method, infos, parts)
    train_rate = mean_rate_bpm(parts.select(infos.values(), "train"))
    write_waveforms(folder / "waveforms.h5", waveforms, {
        "constant_bpm": train_rate, "net": config.net.name, "split": parts.hash,
        "published_as": published_as(config, method), **_training(learned(config, infos, parts)),
    })
    metrics = score_run(config, folder, parts)
    write_text(folder / "table.md", metrics_markdown(metrics) + "\n")
    say(main_markdown(metrics))
    if config.logging.figures:
        write_attention(folder, method, config.net.name, parts.select(infos.values(), "test"))
        write_report(folder)
    say(f"results: {folder} (report.html, table.md, metrics.json)")
    return not any(row["method"] == config.net.name and row["n"] == 0 for row in metrics["rows"])


def published_as(config: RunConfig, method: Method) -> str:
    """What documents call this net, learned in this way; empty where that is not the way of its paper."""
    own = ("classical", getattr(method.net, "default_method", "supervised"))
    return method.published_as or (config.net.name if config.method.name in own else "")


def _training(found: Learned) -> dict[str, str]:
    """What `training_of` reads back: datasets and origins of all that the net learned from."""
    return {"train_datasets": ", ".join(found.names), "train_origins": ", ".join(sorted(found.origins))}


def predict_parts(
    config: RunConfig, method: Method, infos: dict[str, RecordingInfo], parts: Parts
) -> list[RecordingWaveform]:
    """The net's and the classical methods' waveforms for the test part and each extra list."""
    # the run's own method first: a classical row of the same name would lack its options
    methods = {config.net.name: method}
    methods |= {name: m for name, m in classical_methods(config.evaluation).items() if name not in methods}
    waveforms: list[RecordingWaveform] = []
    frames = Frames(method.device)
    for part in parts.test_names():
        recordings = [StoreClips(info, method.input_spec, frames=frames)
                      for info in parts.select(infos.values(), part)]
        waveforms += infer(methods, recordings, batch=config.evaluation.batch, part=part,
                           progress=config.logging.progress)
    return waveforms


def score_run(config: RunConfig, folder: Path, parts: Parts) -> dict:
    """Score the stored waveforms under the run's protocol; writes metrics.json and windows.csv."""
    waveforms, attributes = read_waveforms(folder / "waveforms.h5")
    protocol = protocols.get(config.evaluation.protocol, config.evaluation.protocols)
    missing = {name: parts.parts[name].missing for name in parts.test_names()}
    metrics = protocols.score(
        waveforms, protocol, window_s=config.evaluation.window_s,
        bootstrap=config.evaluation.bootstrap, seed=config.run.seed,
        constant_bpm=attributes.get("constant_bpm"), missing=missing,
    )
    if config.evaluation.vital_signs:
        vital_signs.attach(metrics, vital_signs.by_part(
            waveforms, config.evaluation.vital_signs_preset, missing=missing))
    rows = metrics.pop("windows")
    protocols.write_windows(folder / "windows.csv", rows)
    metrics["split"] = parts.about()
    metrics |= {"training": training_of(attributes), "published_as": attributes.get("published_as")}
    write_json(folder / "metrics.json", metrics)
    return metrics
