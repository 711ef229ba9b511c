"""Loading params.json with every check that needs the registries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from utils import config
from utils.registry import Registry
from utils.settings import RunConfig

Problem = tuple[str, str]


def load_config(path: str, overrides: list[str]) -> RunConfig:
    """The checked config of a params file; ParamsError lists every problem at once."""
    return config.load(Path(path), overrides, [check_names])


def check_names(raw: dict[str, Any]) -> list[Problem]:
    """Problems of everything that is chosen by name, and of the options it is given."""
    problems = _check_data(raw) + _check_evaluation(raw)
    names: list[str] = []
    stages = _dict(raw, "run").get("before", [])
    for index, stage in enumerate(stages if isinstance(stages, list) else []):
        if isinstance(stage, dict):
            found = _check_training(stage, names)
            problems += [(f"run.before.{index}.{path}", text) for path, text in found]
            names.append(str(stage.get("name")))
    return problems + _check_training(raw, names)


def _check_training(raw: dict[str, Any], earlier: list[str]) -> list[Problem]:
    """Problems of a net, its method and its loop; `earlier`: names of the trainings before it."""
    from training.optim import check_train

    problems = _check_net(raw) + check_train(_dict(raw, "train"))
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


def _check_net(raw: dict[str, Any]) -> list[Problem]:
    from nets.methods import METHODS
    from nets.registry import NETS

    net, method = _dict(raw, "net"), {"name": "supervised", **_dict(raw, "method")}
    problems = _check_entry(NETS, "net", net) + _check_entry(METHODS, "method", method)
    if problems or not isinstance(net.get("name"), str):
        return problems
    problems += _check_step(METHODS.get(method["name"]), method["name"], _dict(raw, "train"))
    if any(path.startswith("options") for path, _ in _references(net)):
        return problems  # what it is built from is not there yet
    return problems + _check_input(net, method)


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


def _check_input(net: dict[str, Any], method: dict[str, Any]) -> list[Problem]:
    """Build the net without memory, to ask whether it takes these clips."""
    import torch

    import nets
    from nets import methods

    try:
        with torch.device("meta"), torch.no_grad():
            built: Any = nets.build(net["name"], **_dict(net, "options"))
            built.input_spec = built.input_spec.replace(**_dict(net, "input"))
            methods.build(method["name"], built, **_dict(method, "options"))
            spec = built.input_spec
            if getattr(built, "task", "pulse") in ("pulse", "rate", "levels"):
                built.eval()(torch.empty(1, spec.channels, spec.frames, spec.size, spec.size))
    except (ValueError, TypeError) as error:
        return [("net.input", str(error))]
    except RuntimeError:  # a step that cannot be tried without memory
        return []
    return []


def _check_data(raw: dict[str, Any]) -> list[Problem]:
    from preprocessing.face import FACE_FINDERS
    from preprocessing.sources import SOURCES

    problems: list[Problem] = []
    sets = _dict(raw, "data").get("sets", [])
    for index, entry in enumerate(sets if isinstance(sets, list) else []):
        if isinstance(entry, dict):
            problems += _check_entry(SOURCES, f"data.sets.{index}", entry)
    finder = _dict(raw, "preprocessing").get("face_finder", "mediapipe_mesh")
    if isinstance(finder, str) and finder not in FACE_FINDERS.names():
        problems.append(("preprocessing.face_finder", FACE_FINDERS.unknown(finder)))
    return problems


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
