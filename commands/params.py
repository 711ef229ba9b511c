"""Loading params.json with every check that needs the registries."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from utils import config
from utils.errors import UserError
from utils.registry import Registry
from utils.settings import RunConfig, Split

Problem = tuple[str, str]
EXTRAS = {"skin": ("skin_mask", False), "contour": ("landmarks", True)}
"""What clips may bring beside the video: the setting of preprocessing that stores it, and its default."""


def load_config(path: str, overrides: list[str]) -> RunConfig:
    """The checked config of a params file; ParamsError lists every problem at once."""
    return config.load(Path(path), overrides, [check_names])


def check_names(raw: dict[str, Any]) -> list[Problem]:
    """Problems of everything that is chosen by name, and of the options it is given."""
    problems = _check_data(raw) + _check_split(raw) + _check_evaluation(raw)
    made = _dict(raw, "preprocessing")
    names: list[str] = []
    stages = _dict(raw, "run").get("before", [])
    for index, stage in enumerate(stages if isinstance(stages, list) else []):
        if isinstance(stage, dict):
            found = _check_training(stage, names, made)
            problems += [(f"run.before.{index}.{path}", text) for path, text in found]
            names.append(str(stage.get("name")))
    return problems + _check_training(raw, names, made)


def _check_training(raw: dict[str, Any], earlier: list[str], made: dict[str, Any]) -> list[Problem]:
    """Problems of a net, its method and its loop.

    earlier: names of the trainings before it; made: the section preprocessing.
    """
    from training.optim import check_train

    problems = _check_net(raw, made) + check_train(_dict(raw, "train"))
    quality = _dict(_dict(raw, "net"), "input").get("quality")
    problems += _check_copies("net.input.quality", [quality], made)
    if isinstance(raw.get("name"), str) and raw["name"] in earlier:
        problems.append(("name", f"{raw['name']!r} stands there twice"))
    net, known = _dict(raw, "net"), ", ".join(earlier) or "none"
    return problems + [
        (f"net.{path}", f"{name!r} is no earlier training; run.before has {known}")
        for path, name in _references(net) if name not in earlier
    ]


def _references(net: dict[str, Any]) -> list[tuple[str, str]]:
    """Where a net section refers to earlier trainings, as (path, name)."""
    from commands.starting import EARLIER

    values = {f"options.{key}": value for key, value in _dict(net, "options").items()}
    values |= {f"init_from.{key}": value for key, value in _dict(net, "init_from").items()}
    values["init_from"] = net.get("init_from")
    return [(path, value.removeprefix(EARLIER)) for path, value in values.items()
            if isinstance(value, str) and value.startswith(EARLIER)]


def _dict(raw: dict[str, Any], key: str) -> dict[str, Any]:
    value = raw.get(key, {})
    return value if isinstance(value, dict) else {}


def _check_entry(registry: Registry, path: str, section: dict[str, Any]) -> list[Problem]:
    """A name and its options against a registry."""
    name = section.get("name")
    if not isinstance(name, str):
        return []
    if name not in registry.names():
        return [(f"{path}.name", registry.unknown(name))]
    options = _dict(section, "options")
    return [(f"{path}.options.{key}", text) for key, text in registry.check(name, options)]


def _check_net(raw: dict[str, Any], made: dict[str, Any]) -> list[Problem]:
    from nets.methods import METHODS
    from nets.registry import NETS

    net, method = _dict(raw, "net"), {"name": "supervised", **_dict(raw, "method")}
    problems = _check_entry(NETS, "net", net) + _check_entry(METHODS, "method", method)
    if problems or not isinstance(net.get("name"), str):
        return problems
    problems += _check_step(METHODS.get(method["name"]), method["name"], _dict(raw, "train"))
    if any(path.startswith("options") for path, _ in _references(net)):
        return problems  # what it is built from is not there yet
    return problems + _check_input(net, method, made)


def _check_step(kind: Any, method: str, train: dict[str, Any]) -> list[Problem]:
    """Options of the loop that a method's steps cannot be made with."""
    problems, mode = [], train.get("compile")
    if kind.reads_gradients and train.get("amp") == "fp16":
        problems.append(("train.amp", f"method {method!r} reads gradients and cannot run with fp16, "
                         "which scales them; use bf16 or off"))
    if kind.trainable and mode and not kind.net_calls:
        problems.append(("train.compile", f"method {method!r} calls parts of its net, which compiling the "
                         "net does not reach; leave it false"))
    if isinstance(mode, str) and kind.net_calls > 1:
        problems.append(("train.compile", f"method {method!r} calls its net {kind.net_calls} times a step, "
                         "and a CUDA graph writes each answer over the one before; use true"))
    return problems


def _check_copies(path: str, wanted: Sequence[Any], made: dict[str, Any]) -> list[Problem]:
    """Compressed copies that the setting at `path` asks for, and that a store made so does not hold."""
    copies = made.get("qualities", [])
    if not isinstance(copies, list):
        return []
    here = ", ".join(map(str, copies)) or "none"
    return [(path, f"{name!r} is not one of preprocessing.qualities ({here})")
            for name in wanted if isinstance(name, str) and name not in copies]


def _check_stored(spec: Any, made: dict[str, Any]) -> list[Problem]:
    """What is read beside the crops, and that a store made so does not hold."""
    problems = _check_copies("method.options.qualities", spec.qualities, made)
    for extra, (setting, usual) in EXTRAS.items():
        if extra in spec.extras and made.get(setting, usual) is False:
            problems.append((f"preprocessing.{setting}", f"{extra!r} is read of every frame; set it to true"))
    return problems


def _check_input(net: dict[str, Any], method: dict[str, Any], made: dict[str, Any]) -> list[Problem]:
    """Build the net without memory, to ask whether it takes these clips."""
    import torch

    import nets
    from nets import methods

    problems: list[Problem] = []
    try:
        with torch.device("meta"), torch.no_grad():
            built: Any = nets.build(net["name"], **_dict(net, "options"))
            built.input_spec = built.input_spec.replace(**_dict(net, "input"))
            learner = methods.build(method["name"], built, **_dict(method, "options"))
            problems = _check_stored(learner.input_spec, made)
            spec = built.input_spec
            if getattr(built, "task", "pulse") in ("pulse", "rate", "levels"):
                built.eval()(torch.empty(1, spec.channels, spec.frames, spec.size, spec.size))
    except (ValueError, TypeError) as error:
        return [*problems, ("net.input", str(error))]
    except RuntimeError:  # a step that cannot be tried without memory
        return problems
    return problems


def _check_data(raw: dict[str, Any]) -> list[Problem]:
    from preprocessing.face import FACE_FINDERS
    from preprocessing.sources import SOURCES

    problems: list[Problem] = []
    sets = _dict(raw, "data").get("sets", [])
    for index, entry in enumerate(sets if isinstance(sets, list) else []):
        if isinstance(entry, dict):
            problems += _check_entry(SOURCES, f"data.sets.{index}", entry)
    section = _dict(raw, "preprocessing")
    finder, model = section.get("face_finder", "mediapipe_mesh"), section.get("face_model")
    if isinstance(finder, str) and finder not in FACE_FINDERS.names():
        return [*problems, ("preprocessing.face_finder", FACE_FINDERS.unknown(finder))]
    return problems + _check_model(finder, model)


def _check_model(finder: Any, model: Any) -> list[Problem]:
    """Whether the face finder has the model file it needs, and none otherwise."""
    from preprocessing.face import FACE_FINDERS

    if not isinstance(finder, str) or not isinstance(model, str | None):
        return []
    takes = "model" in FACE_FINDERS.options(finder)
    if takes and model is None:
        text = f"{finder} needs the path of its model file (such as face_landmarker.task)"
    elif model is not None and not takes:
        text = f"{finder} takes no model file; set it to null"
    elif model is not None and not os.path.isfile(model):
        text = f"{model}: no such file"
    else:
        return []
    return [("preprocessing.face_model", text)]


def _check_split(raw: dict[str, Any]) -> list[Problem]:
    """Whether the lists or folds can be read and go together.

    Where a dataset is not here, which ends the work at once, a file is not looked for: it may come with it.
    """
    from dataset.lists import asked, read_folds, read_lists

    try:
        settings = Split.model_validate(_dict(raw, "split"))
    except ValidationError:
        return []
    read = settings.scheme in ("lists", "folds") and _datasets_are_here(raw)
    settings = settings.model_copy(update={"file": settings.file if read else None})
    path, place = Path(settings.file or ""), "split.file"
    try:
        if settings.file and settings.scheme == "folds":
            count = len(read_folds(path, settings.by)[0])
            if settings.fold >= count:
                return [("split.fold", f"{settings.fold} is not below {count}, the folds of {path}")]
        elif settings.file:
            read_lists(path, settings.by)
        place = "split"
        asked(settings)
    except UserError as error:
        return [(place, str(error))]
    return []


def _datasets_are_here(raw: dict[str, Any]) -> bool:
    """Whether the root folder of every dataset exists."""
    sets = _dict(raw, "data").get("sets", [])
    roots = [entry.get("root") for entry in sets if isinstance(entry, dict)] if isinstance(sets, list) else []
    return all(isinstance(root, str) and os.path.isdir(root) for root in roots)


def _check_evaluation(raw: dict[str, Any]) -> list[Problem]:
    import nets
    from evaluation import protocols
    from nets.methods.classical import CROP
    from preprocessing.regions import NAMES

    problems: list[Problem] = []
    section = _dict(raw, "evaluation")
    own = {k: v for k, v in _dict(section, "protocols").items() if isinstance(v, dict)}
    for name in [section.get("protocol", "default"), *own]:
        try:
            protocols.get(name, own)
        except ValueError as error:
            problems.append((f"evaluation.protocols.{name}" if name in own else "evaluation.protocol",
                             str(error)))
    region = section.get("region", "face")
    if isinstance(region, str) and region not in (*NAMES, CROP):
        problems.append(("evaluation.region", f"{region!r} is not one of {', '.join((*NAMES, CROP))}"))
    chosen, known = section.get("classical", []), nets.names(task="classical")
    for name in chosen if isinstance(chosen, list) else []:
        if name not in known:
            problems.append(("evaluation.classical", f"{name!r} is not one of {', '.join(known)}"))
    return problems
