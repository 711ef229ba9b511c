"""The sections of params.json: every setting with its type, default, bounds and meaning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Quality = Annotated[str, Field(pattern=r"^(x264|x265|mpeg4)_[1-9]\d{0,5}$")]


class Section(BaseModel):
    """Strict and frozen: unknown keys, wrong types and non-finite numbers are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class RawSet(Section):
    """One raw dataset."""

    name: str = Field(description="Registered dataset, see `python main.py list`.")
    root: str = Field(description="Folder that holds the dataset as its authors ship it.")
    options: dict[str, Any] = Field({}, description="Options of that dataset's reader.")
    exclude: list[str] = Field([], description="Recording ids left out; named in every result.")
    exclude_lists: list[str] = Field(
        [], description="Shipped lists of recordings with known defects to leave out as well, see "
        "`python main.py list`; named in every result."
    )


class Augment(Section):
    """Changes drawn per training clip; each is off at its default."""

    flip: Fraction = Field(0.0, description="Probability of a horizontal flip.")
    speed: Fraction = Field(0.0, description="Probability of a change of speed (and of the rate).")
    speed_low: float = Field(0.6, gt=0.1, le=1, description="Slowest speed.")
    speed_high: float = Field(1.8, ge=1, lt=10, description="Fastest speed.")
    tempo: Fraction = Field(
        0.0, description="Probability that a clip of a high rate is played at half speed and one of a low "
        "rate at double speed (AutoHR's second augmentation); in place of a change of speed."
    )
    tempo_high_bpm: float = Field(90.0, gt=0, description="Clips above this rate are slowed down.")
    tempo_low_bpm: float = Field(70.0, gt=0, description="Clips below this rate are sped up.")
    erase: Fraction = Field(
        0.0, description="Probability that a box of pixels is set to 0 for a while (AutoHR's first)."
    )
    erase_area: Fraction = Field(0.2, description="Largest share of the picture that is erased.")
    erase_length: Fraction = Field(0.2, description="Largest share of the clip that is erased.")


class Data(Section):
    """What is read."""

    sets: list[RawSet] = Field(min_length=1, description="The raw datasets, one or several.")
    store: str = Field("data/store", description="Folder of the HDF5 store.")
    clips_per_recording: int | None = Field(
        None, ge=1, description="Random clips a recording gives per epoch; null: its length over the clip's."
    )
    shuffle: bool = Field(
        True, description="Training clips in random order from random frames; false: in order, evenly spread."
    )
    augment: Augment = Field(Augment(), description="Augmentation of training clips.")
    workers: int = Field(0, ge=0, le=64, description="Processes that prepare clips; 0: none.")
    keep: Literal["auto", "device", "store"] = Field(
        "auto", description="Frames of training and validation clips: kept in the device's memory, or read "
        "from the store each time; auto: kept on a GPU with twice the room, else read."
    )


class Preprocessing(Section):
    """How face crops are made."""

    enabled: bool = Field(True, description="Make what is missing; false: only reuse the store.")
    face_finder: str = Field(
        "mediapipe_mesh", description="mediapipe_mesh, mediapipe_detection, mediapipe_tasks, haar or none "
        "(the source is the crop)."
    )
    face_model: str | None = Field(
        None, description="Model file of the face finder that needs one (mediapipe_tasks)."
    )
    size: int = Field(128, ge=16, le=512, description="Side of the stored crops in pixels.")
    box: Literal["track", "first", "median"] = Field(
        "track", description="The box follows the face, or stays at the first or the median one."
    )
    box_scale: float = Field(1.3, ge=0.5, le=4, description="Side of the box over the face's height.")
    keyframe_stride: int = Field(
        8, ge=1, le=64, description="Frames between two looks for the face; 1: every frame."
    )
    landmarks: bool = Field(True, description="Store the face mesh of every frame.")
    skin_mask: bool = Field(False, description="Store a 64x64 skin mask of every frame.")
    align: Literal["timestamps", "stretch"] = Field(
        "timestamps",
        description="Labels by their time stamps, or stretched over the frames (to reproduce tables).",
    )
    swap_rb: bool = Field(False, description="The source has red and blue exchanged.")
    qualities: list[Quality] = Field(
        [], description="Compressed copies stored beside the crops, as codec_kbps (x264, x265, mpeg4)."
    )
    workers: int | None = Field(None, ge=1, le=256, description="Processes; null: one a core.")
    cluster: str | None = Field(
        None, pattern=r"^(tcp|tls)://[^\s/]+:\d+$", description="Address of a Dask scheduler, as "
        "tcp://host:8786, whose workers do it; null: processes of this machine."
    )
    timeout_s: float = Field(
        120.0, gt=0, description="A worker that shows no progress for so long is stopped and named."
    )
    verify: bool = Field(False, description="Hash whole source files; what was made without it is made anew.")
    allow_failed: bool = Field(False, description="Failed recordings do not change the exit code.")


class Split(Section):
    """Who is trained on, who chooses, who is tested."""

    scheme: Literal["fractions", "lists", "kfold", "loso", "folds"] = Field(
        "fractions", description="How parts are cut: by shares, by lists, into k folds, leaving one subject "
        "out, or into the folds of a file."
    )
    by: Literal["subject", "recording"] = Field(
        "subject", description='"recording" lets a subject be on both sides; results are then marked.'
    )
    train: Fraction = Field(0.7, description="Share of the training part (fractions).")
    valid: Fraction = Field(0.1, description="Share of the validation part (fractions, kfold).")
    test: Fraction = Field(0.2, description="Share of the test part (fractions).")
    file: str | None = Field(
        None, description="JSON file with the lists (lists) or the folds (folds; also a folder of fold*.mat)."
    )
    lists: dict[Literal["train", "valid", "test"], list[str]] = Field(
        {}, description="Subjects (or recordings, or dataset/*) of each part (lists), or of valid and test "
        "where they are not to be drawn (fractions)."
    )
    absent: Literal["error", "name"] = Field(
        "error", description="Listed people that the data lacks: an error, or named in every result."
    )
    extra: dict[str, list[str]] = Field(
        {}, description="Further named test lists, each with a table of its own."
    )
    folds: int = Field(5, ge=2, description="Number of folds (kfold).")
    fold: int = Field(0, ge=0, description="The fold that is tested (kfold, loso, folds).")


class NetInput(Section):
    """What the net is fed, where it differs from the net's own choice."""

    frames: int | None = Field(None, ge=2, description="Clip length in frames.")
    size: int | None = Field(None, ge=4, le=512, description="Side of the picture in pixels.")
    quality: Quality | None = Field(
        None, description="Read this compressed copy instead of the original crops."
    )
    video: Literal[
        "raw", "unit", "centred", "standardised", "diff_normalised", "diff_standardised"
    ] | None = Field(
        None, description="Form of the frames: 0..255, x/255, (x-127.5)/128, standardised, difference, both "
        "of these in six channels."
    )
    target: Literal["raw", "standardised", "diff_normalised", "second_derivative"] | None = Field(
        None, description="Form of the label: as it is, standardised, first or second difference."
    )


class Net(Section):
    """The architecture."""

    name: str = Field(description="Registered net, see `python main.py list`.")
    options: dict[str, Any] = Field({}, description="Keyword arguments of the net.")
    input: NetInput = Field(NetInput(), description="Clip length, size and forms; null: the net's own.")
    init_from: str | dict[str, str] | None = Field(
        None, description="Run folder or weights file to start from, or one for each named part of the net."
    )


class Learner(Section):
    """How the net learns."""

    name: str = Field("supervised", description="Registered method.")
    options: dict[str, Any] = Field({}, description="Keyword arguments of the method, for example its loss.")


class Train(Section):
    """The loop."""

    epochs: int = Field(15, ge=0, le=100_000, description="Passes over the training part.")
    batch: Positive = Field(4, description="Clips in a batch; several processes share them out.")
    sync_batch_norm: bool = Field(
        False, description="With several GPUs: batch statistics over all of them, not each one's own."
    )
    learning_rate: float = Field(9e-3, gt=0, description="Learning rate, or the peak of the one-cycle.")
    optimizer: str = Field("adam", description="Any optimiser of torch.optim by its name in lower case.")
    optimizer_options: dict[str, Any] = Field({}, description="Its keyword arguments, except lr.")
    scheduler: str = Field(
        "one_cycle", description="Any of torch.optim.lr_scheduler in snake case, or constant."
    )
    scheduler_options: dict[str, Any] = Field({}, description="Its keyword arguments.")
    accumulate: Positive = Field(1, description="Batches summed before a step.")
    amp: Literal["off", "bf16", "fp16", "auto"] = Field(
        "off", description="Automatic mixed precision; auto: bf16 where the hardware has it, else off."
    )
    channels_last: bool = Field(True, description="Memory layout of 3D convolutions; faster, same result.")
    compile: bool | Literal["reduce-overhead", "max-autotune"] = Field(False, description="torch.compile of "
        "the net, true or a mode (reduce-overhead: CUDA graphs); identity of runs is then not claimed.")
    deterministic: bool = Field(True, description="Same bits every time; false: faster on a GPU.")
    clip_norm: float | None = Field(None, gt=0, description="Gradient norm above which it is scaled down.")
    non_finite: Literal["stop", "skip"] = Field(
        "stop", description="A loss or gradient that is not finite: stop, or skip the batch and count it."
    )
    max_skipped: int = Field(10, ge=0, description="Skipped batches after which the run stops.")
    validate_every: Positive = Field(1, description="Epochs between validations.")
    monitor: Literal["loss", "mae_bpm", "irrelevant_power_ratio"] = Field(
        "mae_bpm", description="What chooses the best checkpoint; the last needs no labels: the share of the "
        "waveform's spectrum outside 40 to 250 bpm."
    )
    patience: int | None = Field(None, ge=1, description="Validations without gain before stopping early.")
    checkpoint_steps: int = Field(0, ge=0, description="Steps between checkpoints; 0: every epoch only.")


class Protocol(Section):
    """How a waveform becomes a number; null fields are those of the preset named by `base`."""

    base: str = Field("default", description="Preset that gives every field not set here.")
    changes: dict[str, Any] = Field({}, description="Fields that differ from the preset.")


class Evaluation(Section):
    """What is measured."""

    protocol: str = Field("default", description="Protocol of metrics.json: a preset or one of `protocols`.")
    protocols: dict[str, Protocol] = Field({}, description="Own protocols by name.")
    window_s: float | None = Field(
        None, gt=0, description="Windows of this length instead of whole recordings, in seconds."
    )
    classical: list[str] = Field(
        ["green", "chrom", "pos"], description="Methods without training that get rows in the table."
    )
    region: str = Field("face", description="Skin region the classical methods read; crop: the whole crop.")
    vital_signs: bool = Field(
        True, description="Beat intervals, their variability and respiration beside the heart rate."
    )
    vital_signs_preset: Literal["default", "contrastphys", "nest", "toolbox"] = Field(
        "default", description="How these are measured: beats, intervals kept, spectrum, respiration."
    )
    batch: Positive = Field(8, description="Clips in a batch when predicting.")
    bootstrap: int = Field(1000, ge=0, le=1_000_000, description="Resamplings of the subjects; 0: none.")


class Logging(Section):
    """What is written and shown."""

    progress: bool = Field(True, description="Progress bars.")
    every: Positive = Field(10, description="Steps between two log lines.")
    summary: bool = Field(True, description="Print the net's layers, parameters and FLOPs.")
    timings: bool = Field(False, description="Print how long each part takes (always in log.jsonl).")
    wandb: bool = Field(False, description="Log to Weights & Biases; offline without a key.")
    wandb_project: str = Field("rppg", description="Its project name.")
    figures: bool = Field(True, description="Write figures and the HTML report.")
    epoch_figures: bool = Field(
        False, description="After each validation, draw predicted over true waveforms into figures/epochs."
    )


class Earlier(Section):
    """A training made before the run's own, on its data, split, seed and device."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9_-]+$", description="Its folder in before/ of the run folder; in net.options "
        "and net.init_from of what comes later, `before:<name>` stands for that folder."
    )
    net: Net = Field(description="Its architecture.")
    method: Learner = Field(Learner(), description="How it learns.")
    train: Train = Field(Train(), description="Its loop.")
    augment: Augment = Field(Augment(), description="Augmentation of its clips, as data.augment.")


class Run(Section):
    """The run as a whole."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$", description="Folder name of the run.")
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of everything random.")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N.")
    threads: int | None = Field(None, ge=1, description="CPU threads; null: one a core. Part of the bits.")
    output: str = Field("runs", description="Folder of the run folders.")
    save_model: bool = Field(True, description="Keep the checkpoints when the run is finished.")
    verify: int = Field(0, ge=0, le=20, description="Repeat the training so often and compare the curves.")
    before: list[Earlier] = Field(
        [], description="Trainings made first, in this order: a search, the stages of a joint training."
    )


class RunConfig(Section):
    """A whole params.json."""

    data: Data
    preprocessing: Preprocessing = Preprocessing()
    split: Split = Split()
    net: Net
    method: Learner = Learner()
    train: Train = Train()
    evaluation: Evaluation = Evaluation()
    logging: Logging = Logging()
    run: Run = Run()
