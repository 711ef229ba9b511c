"""predict: waveform, heart rate over time and quality of any face video."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import nets
from commands import zoo
from commands.building import default_method, resolve_device, set_threads, trained_method
from commands.imported import Origin, Recipe, outside, read_about
from dataset.reader import StoreClips
from evaluation.figures import plot_prediction
from evaluation.quality import Quality, assess, assess_rates, heart_rate_over_time
from nets import methods
from nets.methods.base import Method
from nets.weights import load_weights, read_state
from preprocessing.extract import ExtractSettings, extract
from preprocessing.face import FACE_FINDERS
from preprocessing.sources.video_file import video_file
from preprocessing.store import RecordingWriter, StoredRecording
from utils import interrupt
from utils.errors import RecordingsFailed, UserError
from utils.files import not_left_empty, read_json, write_json, write_text
from utils.runlog import Progress, say, warn
from utils.seeding import full_precision
from utils.settings import Preprocessing

SHORT_WINDOW_S, LONG_WINDOW_S = 6.0, 10.0
"""Windows of heart_rate.csv: a third of the recording within these bounds."""
LONGEST_NAME = 200
"""Bytes of a folder's name."""


@dataclass
class Predictor:
    """A method ready to answer, with how it wants its crops, and where imported weights come from."""

    name: str
    method: Method
    preprocessing: Preprocessing
    origin: Origin | None = None


def predict(args: argparse.Namespace) -> int:
    """Predict every video; those that cannot be used are named at the end (exit code 3)."""
    check_words(args)
    out = Path(args.out or "predictions")
    folders = _folders(args.videos, out)
    set_threads(None)
    full_precision()
    predictor = choose(args)
    _require_model(predictor)
    if predictor.origin is not None:
        say("\n".join([f"{predictor.name}: {predictor.origin.sentence()}",
                       *(f"  {text}" for text in predictor.origin.conditions)]))
    predictor.method.to(resolve_device(args.device))
    if args.camera is not None:
        from commands.camera import watch  # a page and its server, which videos do not need

        return watch(predictor, args)
    failed: dict[str, str] = {}
    with interrupt.listening(), not_left_empty(out):
        for video, folder in folders.items():
            try:
                say(predict_video(predictor, Path(video), folder))
            except UserError as error:
                if error.exit_code == 4:
                    raise
                failed[video] = str(error).removeprefix(f"{video}: ")
    if failed:
        lines = [f"  {video}: {reason}" for video, reason in failed.items()]
        raise RecordingsFailed(
            "\n".join([f"{len(failed)} of {len(folders)} videos could not be used:", *lines])
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


def _folders(videos: list[str], out: Path) -> dict[str, Path]:
    """The folder of each video, its name without the suffix; UserError where that is none of its own."""
    stems = [Path(video).stem for video in videos]
    doubled = sorted({stem for stem in stems if stems.count(stem) > 1})
    if doubled:
        raise UserError(f"two videos would write the same folder: {', '.join(doubled)}; use --out apart")
    for video, stem in zip(videos, stems, strict=True):
        if stem in ("", ".", "..") or len(os.fsencode(stem)) > LONGEST_NAME:
            raise UserError(f"{video}: its results go to a folder of its name without the suffix, and "
                            f"{stem!r} cannot be one; rename the video")
    return {video: out / stem for video, stem in zip(videos, stems, strict=True)}


def choose(args: argparse.Namespace) -> Predictor:
    """The method asked for: a run folder, a weights file with its net, or a classical method."""
    if args.method and args.checkpoint:
        raise UserError("give either --method or --checkpoint")
    if args.net and not args.checkpoint:
        raise UserError(f"--net {args.net} needs --checkpoint, a run folder or its weights")
    if args.source and not args.checkpoint:
        raise UserError("--source goes with --checkpoint zoo:NAME")
    finder = _finder(args.face_finder)
    if args.checkpoint is None:
        name = args.method or "pos"
        known = nets.names(task="classical")
        if name not in known:
            raise UserError(f"--method {name}: not a method without training; known: {', '.join(known)}")
        return Predictor(name, methods.build("classical", nets.build(name)), Preprocessing(**finder))
    source = zoo.named(args.checkpoint, Path(args.source) if args.source else None)
    if source.is_dir():
        method, config = trained_method(source)
        if args.net and args.net != config.net.name:
            raise UserError(f"--net {args.net}: {source} holds a {config.net.name}")
        return Predictor(config.net.name, method, config.preprocessing.model_copy(update=finder))
    if not source.exists():
        raise UserError(f"{source}: there is no such run folder or weights file")
    return of_file(source, args.net, finder)


def _finder(name: str | None) -> dict[str, Any]:
    """Settings of the face finder asked for; UserError for an unknown one."""
    if name is None:
        return {}
    if name not in FACE_FINDERS.names():
        raise UserError(f"--face-finder: {FACE_FINDERS.unknown(name)}")
    takes_model = "model" in FACE_FINDERS.options(name)
    return {"face_finder": name} if takes_model else {"face_finder": name, "face_model": None}


def _require_model(predictor: Predictor) -> None:
    """UserError before any video where the face finder's model file is not known."""
    settings = predictor.preprocessing
    if settings.face_model is None and "model" in FACE_FINDERS.options(settings.face_finder):
        raise UserError(f"--face-finder {settings.face_finder}: needs a model file, which is only known of a "
                        "run that was made with one (--checkpoint RUN)")


def of_file(source: Path, name: str | None, finder: dict[str, Any]) -> Predictor:
    """A weights file: an imported one tells its net itself, of a bare one `name` must.

    finder: settings of the crops that go before those of the file.
    """
    about = read_about(source)
    if about is None and not name:
        read_state(source)  # a file that holds no weights at all says so first
        raise UserError(f"{source}: say with --net which net these weights belong to: "
                        f"{', '.join(nets.names())}")
    recipe, origin = about or (Recipe(name or ""), None)
    if name and name != recipe.net:
        raise UserError(f"--net {name}: {source} holds a {recipe.net}")
    net = recipe.build()
    load_weights(net, source)
    method = default_method(net).eval()
    crops = {"size": max(128, method.input_spec.size), **recipe.preprocessing, **finder}
    return Predictor(recipe.net, method, Preprocessing(**crops), origin)


def predict_video(predictor: Predictor, video: Path, out: Path) -> str:
    """Crop, predict and write the four files of one video; returns the line to print.

    An earlier prediction of the video is written over; UserError where `out` holds that of another one.
    """
    _refuse_another(out / "summary.json", video)
    with not_left_empty(out):
        with tempfile.TemporaryDirectory(dir=out, prefix=".crops") as scratch:
            stored = Path(scratch) / "crops.h5"
            warnings = make_crops(predictor, video, stored)
            clips = StoreClips.from_file(stored, predictor.method.input_spec)
            if predictor.origin is not None:
                warnings += unlike(predictor.origin, predictor.method, stored, clips)
            waveform, time_s, quality, found = judged(predictor, clips)
        return write_results(predictor, video, out, waveform, time_s, quality, found, warnings)


def _refuse_another(summary: Path, video: Path) -> None:
    """In many datasets every video has the same name: one must not take the place of another."""
    earlier = read_json(summary) if summary.exists() else None
    path = earlier.get("path") if isinstance(earlier, dict) else None
    if path not in (None, os.path.realpath(video)):
        raise UserError(f"{summary.parent} holds the prediction of {path}; use another --out")


def unlike(origin: Origin, method: Method, stored: Path, clips: StoreClips) -> list[str]:
    """In what a video is unlike the training of imported weights; printed, and returned for the summary."""
    spec, width = method.input_spec, StoredRecording(stored).array("box")[:, 2]
    told = outside(origin, spec.size, spec.frames, clips.fps, clips.n_frames, float(np.median(width)))
    for text in told:
        warn(f"outside what these weights are known for: {text}")
    return told


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
    predictor: Predictor, video: Path, out: Path, waveform: np.ndarray, time_s: np.ndarray, quality: Quality,
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
    summary: dict[str, Any] = {
        "video": video.name, "path": os.path.realpath(video), "heart_rate_bpm": rate,
        "quality": quality.value, "snr_db": quality.snr_db, "method": predictor.name, "fps": fps,
        "n_frames": len(waveform), "n_frames_with_face": found, "duration_s": duration_s,
        "warnings": [*warnings, *quality.warnings],
    }
    if predictor.origin is not None:
        summary["weights"] = dataclasses.asdict(predictor.origin)
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
