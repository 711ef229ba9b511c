"""The training stage: loaders, net, loop; the method comes back with its best weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from commands.building import build_method, resolve_device, set_threads
from commands.runfolder import environment
from commands.starting import best_weights
from dataset.frames import FROM_STORE, Frames, choose, n_bytes
from dataset.index import RecordingInfo
from dataset.loader import ClipLoader
from dataset.reader import StoreClips
from dataset.split import Parts
from evaluation import protocols
from evaluation.infer import drawn_loss, infer, validation_loss
from evaluation.quality import mean_irrelevant_power
from nets.methods.base import Method
from nets.methods.supervised import without_label
from nets.summary import model_summary
from training import ranks
from training.checkpoint import Checkpoints
from training.fit import FitResult, fit
from training.tracking import NullTracker, Tracker, make_tracker
from training.updater import Updater, resolve_amp
from utils.allocator import keep_freed_memory
from utils.contracts import InputSpec
from utils.errors import UserError
from utils.files import MIB, parse_json, write_json, write_text
from utils.runlog import RunLog, say, warn
from utils.seeding import seed_everything
from utils.settings import RunConfig, Train

Infos = dict[str, RecordingInfo]
GENOTYPE = "genotype.json"


def learn(config: RunConfig, folder: Path, log: RunLog, infos: Infos, parts: Parts) -> Method:
    """Train (or continue to); returns the method in eval mode with the weights chosen on validation.

    config: without references to earlier trainings, see `starting.resolved`.
    """
    device, settings, method = prepare(config)
    facts = environment(device, torch.get_num_threads(), settings.amp, config)
    write_json(folder / "environment.json", facts)
    log.write("start", environment=facts)
    if not method.trainable:
        return method.eval()
    if config.logging.summary:
        show_summary(method, folder)
    checkpoints = Checkpoints(folder / "checkpoints", identity={
        "net": config.net.name, "method": config.method.name, "split": parts.hash,
    }, about={"params": config.model_dump(mode="json"), "environment": facts})
    if checkpoints.exist():
        say(f"continuing from {folder / 'checkpoints'}")
    if settings.epochs and not parts.keys("valid"):
        warn("no validation recording can be used: the last epoch is kept as the best")
    tracker = make_tracker(config.logging, folder, config.run.name, config.model_dump(mode="json"))
    try:
        result = train_once(config, settings, device, method, infos, parts, checkpoints=checkpoints,
                            log=log, tracker=tracker, figures=folder / "figures" / "epochs")
    finally:
        tracker.finish()
    say(f"trained {result.epochs} epochs; best epoch {result.best_epoch}" if settings.epochs else
        "not trained (train.epochs = 0): tested with the weights it starts from")
    keep_artifacts(method, folder, config.logging.figures)
    method.load_state_dict(best_weights(folder))
    return method.eval()


def help_to_learn(config: RunConfig, infos: Infos, parts: Parts) -> None:
    """The part in `learn` of a process that is not the first: it trains with it, and writes nothing."""
    device, settings, method = prepare(config)
    if method.trainable:
        train_once(config, settings, device, method, infos, parts, checkpoints=None, log=RunLog(None),
                   tracker=NullTracker())


class Nothing:
    """The batches of a run without epochs."""

    def __len__(self) -> int:
        return 0

    def epoch(self, epoch: int, first_step: int = 0) -> tuple[()]:
        """No batch."""
        return ()


def keep_artifacts(method: Method, folder: Path, figures: bool) -> None:
    """Write what a method made beside its weights, as it is after the last epoch."""
    made = method.artifacts()
    for name, text in made.items():
        write_text(folder / name, text)
    if GENOTYPE in made and figures:
        from evaluation.figures.cells import write_cells  # matplotlib only where it draws

        write_cells(folder / "figures" / "cells.png", parse_json(made[GENOTYPE], GENOTYPE))


def prepare(config: RunConfig) -> tuple[torch.device, Train, Method]:
    """Seeds, threads, device, precision and the method, in the order the bits depend on."""
    set_threads(config.run.threads)
    device = ranks.start(resolve_device(config.run.device))
    ranks.require_clips(config.train.batch)
    if device.type == "cpu":
        keep_freed_memory()
    seed_everything(config.run.seed, config.train.deterministic)
    method = build_method(config).to(device)
    if config.train.sync_batch_norm and ranks.count() > 1:
        ranks.share_norms(method, device)
    amp = resolve_amp(config.train.amp, device)
    return device, config.train.model_copy(update={"amp": amp}), method


def show_summary(method: Method, folder: Path) -> None:
    """Print the layers with parameters and FLOPs, and keep them in the run folder."""
    text, facts = model_summary(method.net, method.input_spec)
    write_text(folder / "net.txt", text + "\n")
    say(f"{type(method.net).__name__}: {facts['parameters']:,} parameters, "
        f"{facts['macs_per_clip'] / 1e9:.3f} GMAC a clip (layers in {folder / 'net.txt'})")


def train_once(
    config: RunConfig, settings: Train, device: torch.device, method: Method, infos: Infos,
    parts: Parts, *, checkpoints: Checkpoints | None, log: RunLog, tracker: Tracker,
    figures: Path | None = None,
) -> FitResult:
    """One pass of the loop over the training part; figures: folder of logging.epoch_figures.

    Without epochs neither part is read: the checkpoint is that of the weights as they are.
    """
    used = parts if settings.epochs else Parts("", "", {})
    train, valid = (used.select(infos.values(), name) for name in ("train", "valid"))
    refuse_unlabelled(method, train)
    refuse_monitor(settings.monitor, method, valid)
    frames = kept_frames(config, method, device, [*train, *valid])
    loader = Nothing() if not settings.epochs else ClipLoader(
        train, training_spec(config, method),
        batch=settings.batch, seed=config.run.seed, augment=config.data.augment,
        clips_per_recording=config.data.clips_per_recording, workers=config.data.workers,
        label_share=method.label_share, part=(ranks.rank(), ranks.count()),
        frames=frames, pin=device.type == "cuda",
    )
    if isinstance(loader, ClipLoader):
        tell_labels(method, loader, settings.monitor if valid else "", log)
    updater = Updater(method, settings, device, total_steps=settings.epochs * len(loader),
                      steps_per_epoch=len(loader))
    drawn = figures if config.logging.epoch_figures else None
    return fit(
        method, updater, loader, settings=settings, device=device, checkpoints=checkpoints, log=log,
        every=config.logging.every, progress=config.logging.progress and ranks.rank() == 0,
        seed=config.run.seed, tracker=tracker,
        validate=validation(config, method, valid, frames, drawn) if valid else None,
    )


def kept_frames(
    config: RunConfig, method: Method, device: torch.device, infos: list[RecordingInfo]
) -> Frames:
    """Where frames come from in this training, said where they are kept in the device's memory."""
    frames = choose(config.data.keep, device, infos, method.input_spec, config.data.workers)
    if frames.keep and infos:
        mib = n_bytes(infos, method.input_spec) // MIB
        say(f"clips are cut on {device}, which keeps the frames of {len(infos)} recordings ({mib:,} MiB)")
    return frames


def refuse_unlabelled(method: Method, train: list[RecordingInfo]) -> None:
    """UserError naming all recordings of the training part without a label, where the method needs them.

    A method that was asked to read a share of the labels takes recordings without one as it takes the
    others, but there must be some with a label: without, it is another method.
    """
    missing = [info.key for info in train if not info.has_label]
    needs_all = method.label_share >= 1 and not method.passes_unlabelled
    needs_some = method.label_share > type(method).label_share
    if missing and (needs_all or (needs_some and len(missing) == len(train))):
        raise without_label(missing)


def refuse_monitor(monitor: str, method: Method, valid: list[RecordingInfo]) -> None:
    """UserError when the best checkpoint is to be chosen by what this validation part lacks."""
    known = [info for info in valid if info.has_label or info.hr_mean_bpm is not None]
    by_labels = monitor == "mae_bpm" or (monitor == "loss" and not method.drawn_loss)
    if valid and by_labels and not known:
        raise UserError(
            f'train.monitor = "{monitor}" compares with a reference, and none of the {len(valid)} validation '
            'recordings has one; set train.monitor = "irrelevant_power_ratio", which needs none, or leave '
            "the validation part empty to keep the last epoch"
        )


def tell_labels(method: Method, loader: ClipLoader, monitor: str, log: RunLog) -> None:
    """Say and log which labels are kept from a method that does not read all of them.

    monitor: what the best epoch is chosen by, empty without validation.
    """
    if method.label_share >= 1:
        return
    keys = [info.key for info in loader.infos]
    read = [key for key in keys if key not in loader.unlabelled]
    log.write("labels", share=method.label_share, read=read, kept_back=sorted(loader.unlabelled))
    say(f"labels of {len(read)} of {len(keys)} training recordings are read"
        + (f": {', '.join(read)}" if read else "")
        + ("; the best epoch is chosen by mae_bpm, from validation labels" if monitor == "mae_bpm" else ""))


def training_spec(config: RunConfig, method: Method) -> InputSpec:
    """What training clips look like; without data.shuffle they are drawn in order."""
    spec = method.input_spec
    if config.data.shuffle:
        return spec
    if spec.plan != InputSpec.plan:
        raise UserError(f"data.shuffle = false: method {config.method.name!r} draws its batches itself; "
                        "leave it true")
    return spec.replace(plan="in_order")


def validation(
    config: RunConfig, method: Method, infos: list[RecordingInfo], frames: Frames = FROM_STORE,
    figures: Path | None = None,
) -> Callable[[int], dict[str, float]]:
    """Loss, heart-rate error under the run's protocol, and irrelevant power ratio of the validation part.

    The loss is that of the tiled clips, or of clips drawn as in training where the method needs that.
    frames: where those of the clips come from; figures: folder for a figure of the waveforms after each,
    None draws none.
    """
    recordings = [StoreClips(info, method.input_spec, frames=frames) for info in infos]
    protocol = protocols.get(config.evaluation.protocol, config.evaluation.protocols)
    drawn = drawn_clips(config, method, infos, frames) if method.drawn_loss else None

    def loss() -> float:
        if not method.drawn_loss:
            return validation_loss(method, recordings, config.evaluation.batch)
        return drawn_loss(method, drawn, config.run.seed) if drawn else float("nan")

    def validate(epoch: int) -> dict[str, float]:
        waveforms = infer({config.net.name: method}, recordings, batch=config.evaluation.batch)
        if figures:
            from evaluation.figures.epochs import write_epoch_figure  # matplotlib only where it draws

            write_epoch_figure(figures, epoch, waveforms, config.net.name)
        metrics = protocols.score(waveforms, protocol, window_s=config.evaluation.window_s, bootstrap=0)
        row = next(row for row in metrics["rows"] if row["method"] == config.net.name)
        mae = row.get("mae_bpm")
        # a recording that failed must not make the mean of the others look good
        return {"loss": loss(), "mae_bpm": float("nan") if mae is None or row["n_failed"] else mae,
                "irrelevant_power_ratio": mean_irrelevant_power(waveforms, config.net.name)}

    return validate


def drawn_clips(
    config: RunConfig, method: Method, infos: list[RecordingInfo], frames: Frames
) -> ClipLoader | None:
    """Validation clips as the method's plan draws them, always the same; None, said, where it cannot."""
    try:
        return ClipLoader(infos, training_spec(config, method), batch=config.train.batch,
                          seed=config.run.seed, label_share=1.0 if method.label_share else 0.0,
                          frames=frames)
    except UserError as error:
        warn(f"no validation loss: {error}")
        return None
