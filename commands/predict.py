"""predict: waveform, heart rate over time and quality of any face video."""

from __future__ import annotations

import argparse
import csv
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import nets
from commands.building import resolve_device, set_threads, trained_method
from dataset.reader import StoreClips
from evaluation.figures import plot_prediction
from evaluation.quality import Quality, assess, assess_rates, heart_rate_over_time
from nets import methods
from nets.methods.base import Method
from nets.weights import load_weights
from preprocessing.extract import ExtractSettings, extract
from preprocessing.sources.video_file import video_file
from preprocessing.store import RecordingWriter
from utils import interrupt
from utils.errors import RecordingsFailed, UserError
from utils.files import write_json, write_text
from utils.runlog import Progress, say
from utils.settings import Preprocessing

SHORT_WINDOW_S, LONG_WINDOW_S = 6.0, 10.0
"""Windows of heart_rate.csv: a third of the recording within these bounds."""


@dataclass
class Predictor:
    """A method ready to answer, with how it wants its crops."""

    name: str
    method: Method
    preprocessing: Preprocessing


def predict(args: argparse.Namespace) -> int:
    """Predict every video; those that cannot be used are named at the end (exit code 3)."""
    check_words(args)
    set_threads(None)
    predictor = choose(args)
    predictor.method.to(resolve_device(args.device))
    if args.camera is not None:
        from commands.camera import watch  # a page and its server, which videos do not need

        return watch(predictor, args)
    out = Path(args.out or "predictions")
    stems = [Path(video).stem for video in args.videos]
    doubled = sorted({stem for stem in stems if stems.count(stem) > 1})
    if doubled:
        raise UserError(f"two videos would write the same folder: {', '.join(doubled)}; use --out apart")
    failed: dict[str, str] = {}
    with interrupt.listening():
        for video, stem in zip(args.videos, stems, strict=True):
            try:
                say(predict_video(predictor, Path(video), out / stem))
            except UserError as error:
                if error.exit_code == 4:
                    raise
                failed[video] = str(error).removeprefix(f"{video}: ")
    if failed:
        lines = [f"  {video}: {reason}" for video, reason in failed.items()]
        raise RecordingsFailed(
            "\n".join([f"{len(failed)} of {len(stems)} videos could not be used:", *lines])
        )
    return 0


def check_words(args: argparse.Namespace) -> None:
    """UserError unless there are videos or a camera, and only words that go with them."""
    if args.camera is not None and args.videos:
        raise UserError("give either videos or --camera")
    if args.camera is None and not args.videos:
        raise UserError("give one or several videos, or --camera with its number, such as --camera 0")
    used = [f"--{name.replace('_', '-')}" for name in ("port", "window", "seconds", "fast", "no_page")
            if getattr(args, name) is not None and getattr(args, name) is not False]
    if args.camera is None and used:
        raise UserError(f"{', '.join(used)} only with --camera")


def choose(args: argparse.Namespace) -> Predictor:
    """The method asked for: a run folder, a weights file with its net, or a classical method."""
    if args.method and args.checkpoint:
        raise UserError("give either --method or --checkpoint")
    if args.net and not args.checkpoint:
        raise UserError(f"--net {args.net} needs --checkpoint, a run folder or its weights")
    finder = {"face_finder": args.face_finder} if args.face_finder else {}
    if args.checkpoint is None:
        name = args.method or "pos"
        known = nets.names(task="classical")
        if name not in known:
            raise UserError(f"--method {name}: not a method without training; known: {', '.join(known)}")
        return Predictor(name, methods.build("classical", nets.build(name)), Preprocessing(**finder))
    source = Path(args.checkpoint)
    if source.is_dir():
        method, config = trained_method(source)
        if args.net and args.net != config.net.name:
            raise UserError(f"--net {args.net}: {source} holds a {config.net.name}")
        return Predictor(config.net.name, method, config.preprocessing.model_copy(update=finder))
    if not source.exists():
        raise UserError(f"{source}: there is no such run folder or weights file")
    if not args.net:
        raise UserError(f"{source}: say with --net which net these weights belong to: "
                        f"{', '.join(nets.names())}")
    if args.net not in nets.names():
        raise UserError(f"--net: {nets.NETS.unknown(args.net)}")
    net = nets.build(args.net)
    load_weights(net, source)
    method = methods.build("supervised", net).eval()
    return Predictor(args.net, method, Preprocessing(size=max(128, method.input_spec.size), **finder))


def predict_video(predictor: Predictor, video: Path, out: Path) -> str:
    """Crop, predict and write the four files of one video; returns the line to print."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".crops") as scratch:
        stored = Path(scratch) / "crops.h5"
        warnings = make_crops(predictor, video, stored)
        clips = StoreClips.from_file(stored, predictor.method.input_spec)
        waveform, time_s, quality, found = judged(predictor, clips)
    return write_results(predictor.name, video, out, waveform, time_s, quality, found, warnings)


def judged(predictor: Predictor, clips: StoreClips) -> tuple[np.ndarray, np.ndarray, Quality, int]:
    """Waveform (T,), its times (T,), its quality, and the number of frames with a face."""
    with torch.no_grad():
        waveform = predictor.method.predict(clips).double().numpy()
    reference = other_opinions(predictor, clips)
    time_s = clips.time_s.double().numpy()
    found = int(clips.face_found.sum())
    if getattr(predictor.method, "waveform_from_rates", False):
        quality = assess_rates(waveform, time_s, reference, found / len(waveform))
    else:
        quality = assess(waveform, time_s, others=reference, face_share=found / len(waveform))
    return waveform, time_s, quality, found


def make_crops(predictor: Predictor, video: Path, target: Path) -> list[str]:
    """Extract the face crops of a video into a temporary store file; returns the warnings."""
    recording = video_file(video)
    settings = predictor.preprocessing
    bar = Progress(None, f"face crops of {video.name}")

    def beat() -> None:
        interrupt.check()
        bar.step()

    try:
        with RecordingWriter(target, settings.size) as writer:
            made = extract(recording, ExtractSettings.from_params(settings), writer, beat)
            writer.finish(made.arrays, {
                **made.attributes, "dataset": recording.dataset, "subject": recording.subject,
                "recording": recording.recording,
            })
    finally:
        bar.close()
    return list(made.warnings)


def other_opinions(predictor: Predictor, clips: StoreClips) -> list[np.ndarray]:
    """Waveforms of a method without training on each skin region, to compare the rate with."""
    opinions = []
    for region in clips.region_names:
        method = methods.build("classical", nets.build("pos"), region=region)
        waveform = method.predict(clips).double().numpy()
        if np.isfinite(waveform).all():
            opinions.append(waveform)
    return opinions


def write_results(
    name: str, video: Path, out: Path, waveform: np.ndarray, time_s: np.ndarray, quality: Quality,
    found: int, warnings: list[str],
) -> str:
    """waveform.csv, heart_rate.csv, summary.json and plot.png."""
    duration_s = float(time_s[-1] - time_s[0])
    window_s = min(LONG_WINDOW_S, max(SHORT_WINDOW_S, duration_s / 3))
    rates = heart_rate_over_time(waveform, time_s, window_s)
    fps = (len(time_s) - 1) / duration_s
    write_text(out / "waveform.csv", _csv("time_s,pulse", zip(time_s, waveform, strict=True)))
    write_text(out / "heart_rate.csv", _csv("time_s,heart_rate_bpm,snr_db", rates))
    rate = quality.heart_rate_bpm
    summary = {
        "video": video.name, "heart_rate_bpm": rate, "quality": quality.value,
        "snr_db": quality.snr_db, "method": name, "fps": fps, "n_frames": len(waveform),
        "n_frames_with_face": found, "duration_s": duration_s,
        "warnings": [*warnings, *quality.warnings],
    }
    write_json(out / "summary.json", summary)
    plot_prediction(out / "plot.png", waveform, time_s, rates, summary)
    shown = "no heart rate" if rate is None else f"{rate:.1f} bpm"
    return f"{video.name}: {shown}, quality {quality.value:.2f}, {len(waveform)} frames -> {out}"


def _csv(header: str, rows: object) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header.split(","))
    for row in rows:  # type: ignore[attr-defined]
        writer.writerow([f"{float(value):.6f}" for value in row])
    return text.getvalue()
