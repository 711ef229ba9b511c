"""The command line: run, preprocess, train, evaluate, predict, table, audit, list, doctor and more.

Exit codes: 0 done; 1 a fault of ours; 2 wrong use or wrong params; 3 finished, but recordings
failed and were named; 4 stopped by a named cause, resumable; 130 Ctrl-C and 143 SIGTERM, resumable.
"""

from __future__ import annotations

import argparse
import errno
import gc
import importlib
import os
import signal
import sys
import traceback

from utils.errors import Interrupted, UserError
from utils.files import is_plain

PATH_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
               errno.ENAMETOOLONG, errno.ELOOP)
COLLECTOR = (20_000, 20, 20)
"""Thresholds of Python's garbage collector: with its own it spends a fifth of every start on what stays."""
COMMANDS = {
    "run": "commands.experiment:run",
    "preprocess": "commands.experiment:preprocess",
    "train": "commands.experiment:train",
    "evaluate": "commands.evaluate:evaluate",
    "predict": "commands.predict:predict",
    "import-weights": "commands.import_weights:import_weights",
    "table": "commands.table:table",
    "reproduce": "commands.reproduce:reproduce",
    "sweep": "commands.sweep:sweep",
    "audit": "commands.audit:audit",
    "list": "commands.listing:listing",
    "doctor": "commands.doctor:doctor",
    "synthesise": "commands.synthesise:synthesise",
}


def parser() -> argparse.ArgumentParser:
    """The whole command line; nothing heavy is imported for it."""
    top = argparse.ArgumentParser(
        prog="main.py", description="Train and evaluate remote photoplethysmography networks. "
        "Without a command: run params.json.",
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    _add_experiment(commands)
    _add_evaluate(commands)
    _add_reproduce(commands)
    _add_sweep(commands)
    _add_predict(commands)
    _add_import(commands)
    _add_others(commands)
    return top


def _add_experiment(commands: argparse._SubParsersAction) -> None:
    texts = {
        "run": "preprocess what is missing, split, train, evaluate, report",
        "preprocess": "only fill the store",
        "train": "preprocess, split, train; no test recording is read",
        "audit": "the health of the raw data, recording by recording, before anything is trained",
    }
    for name, text in texts.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("params", nargs="?", default="params.json", help="default: params.json")
        command.add_argument(
            "--set", action="append", default=[], metavar="section.key=value", dest="overrides",
            help="override one setting; may be repeated",
        )
        command.add_argument(
            "--verify", action="append_const", const="preprocessing.verify=true", dest="overrides",
            help="hash whole source files and check every stored file, not only sizes and parts; what was "
            "made without it has no such hashes and is made again, once",
        )
        if name == "audit":
            command.add_argument("--out", metavar="DIR", help="default: the folder audit in the store")
        elif name != "preprocess":
            command.add_argument(
                "--resume", action="store_true", help="insist on continuing an existing run"
            )


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    text = "score stored waveforms under named protocols; no network is run"
    command = commands.add_parser("evaluate", help=text, description=text)
    command.add_argument("target", help="a run folder or a waveform file")
    command.add_argument("--protocol", nargs="+", default=["default"], metavar="NAME",
                         help="presets, own ones of the run, or all; several give a table of their shift")
    command.add_argument("--report", action="store_true", help="renew the run's report.html as well")
    command.add_argument("--full", action="store_true", help="also print the further metrics")
    command.add_argument("--out", metavar="DIR", help="default: the target's folder")


def _add_reproduce(commands: argparse._SubParsersAction) -> None:
    text = "run every recipe of a published table on your data, then print the table"
    command = commands.add_parser("reproduce", help=text, description=text)
    command.add_argument("table", metavar="TABLE", help="a folder of params/tables: ubfc, pure, vipl, cross")
    command.add_argument("--root", action="append", default=[], metavar="dataset=FOLDER",
                         help="where a dataset lies; may be repeated")
    command.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these recipes")
    command.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="default: 0")
    command.add_argument("--set", action="append", default=[], metavar="section.key=value", dest="overrides",
                         help="override one setting of every recipe; may be repeated")
    command.add_argument("--published", action="store_true", help="every published row of the test sets")
    command.add_argument("--out", metavar="DIR", help="default: runs/table_TABLE")


def _add_sweep(commands: argparse._SubParsersAction) -> None:
    text = "seeds, folds and a grid of settings of one experiment, side by side, then their table"
    command = commands.add_parser("sweep", help=text, description=text)
    command.add_argument("params", nargs="?", default="params.json", help="default: params.json")
    command.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="default: 0")
    command.add_argument("--folds", nargs="*", type=int, metavar="N",
                         help="these folds of the split; without a number all of them")
    command.add_argument("--grid", action="append", default=[], metavar="section.key=VALUE,VALUE",
                         help="every one of these values; may be repeated, all combinations are run")
    command.add_argument("--set", action="append", default=[], metavar="section.key=value", dest="overrides",
                         help="override one setting of every run; may be repeated")
    command.add_argument("--jobs", type=int, metavar="N", help="runs at a time; default: one a GPU, else one")
    command.add_argument("--list", action="store_true",
                         help="only print the commands, one a line, for a cluster's job arrays")
    command.add_argument("--out", metavar="DIR", help="default: sweep_<run.name> beside the runs")


def _add_predict(commands: argparse._SubParsersAction) -> None:
    text = "waveform and heart rate from any face video, no ground truth needed"
    command = commands.add_parser("predict", help=text, description=text)
    command.add_argument("videos", nargs="*", metavar="VIDEO")
    command.add_argument("--checkpoint", metavar="RUN_OR_FILE",
                         help="a run folder, weights, or zoo:NAME, see `main.py list --zoo`")
    command.add_argument("--source", metavar="FILE", help="with zoo:NAME: its weights, or a wheel with them")
    command.add_argument("--net", metavar="NAME", help="the net a bare weights file belongs to")
    command.add_argument("--method", metavar="NAME", help="a method without training, such as pos")
    command.add_argument("--face-finder", metavar="NAME", help="default: that of the run, or mediapipe_mesh")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    command.add_argument("--out", metavar="DIR",
                         help="default: predictions; with --camera a new folder of the date in it")
    live = command.add_argument_group("live")
    live.add_argument("--camera", metavar="NUMBER_OR_FILE",
                      help="watch a camera, or a video file in its place, on a page of this machine")
    live.add_argument("--window", type=float, metavar="SECONDS", help="how far back it looks, default: 15")
    live.add_argument("--seconds", type=float, metavar="N", help="stop after so long; default: at Ctrl-C")
    live.add_argument("--port", type=int, metavar="N", help="port of the page, default: any that is free")
    live.add_argument("--no-page", action="store_true", help="only write camera.jsonl and summary.json")
    live.add_argument("--fast", action="store_true", help="a file as fast as can be, no frame dropped")


def _add_import(commands: argparse._SubParsersAction) -> None:
    text = "weights of another program (a PyTorch state dict or Keras HDF5) as a checkpoint for predict"
    command = commands.add_parser("import-weights", help=text, description=text)
    command.add_argument("source", metavar="SOURCE", help="a .pth or .h5 file of rPPG-Toolbox or open-rppg")
    command.add_argument("--net", required=True, metavar="NAME", help="the net here that it belongs to")
    command.add_argument("--set", action="append", default=[], metavar="key=value", dest="overrides",
                         help="an option of the net, or input.key=value for what it is fed; may be repeated")
    command.add_argument("--output", metavar="FILE", help="default: SOURCE's name with the net's, here")
    command.add_argument("--trained-on", metavar="TEXT", help="what the weights were trained on")
    command.add_argument("--fps", type=float, metavar="N", help="frame rate they were trained at")
    command.add_argument("--licence", metavar="TEXT", help="terms of the weights")


def _add_others(commands: argparse._SubParsersAction) -> None:
    text = "one table over runs, beside published numbers"
    table = commands.add_parser("table", help=text, description=text)
    table.add_argument("runs", nargs="+", metavar="RUN")
    table.add_argument("--published", action="store_true", help="every published row of the test sets")
    table.add_argument("--protocol", metavar="NAME", help="one that `evaluate` scored the runs under")
    table.add_argument("--out", metavar="DIR", help="also write table.md, table.csv and table.tex there")
    text = "registered nets, methods, datasets, face finders and protocols"
    listed = commands.add_parser("list", help=text, description=text)
    listed.add_argument("--params", action="store_true", help="every setting of params.json instead")
    listed.add_argument("--zoo", action="store_true", help="trained weights that predict takes as zoo:NAME")
    listed.add_argument("--schema", action="store_true", help="the JSON schema of params.json instead")
    text = "check the environment: versions, one cv2, face mesh, devices, disk"
    commands.add_parser("doctor", help=text, description=text)
    text = "write synthetic face videos with a known pulse, as UBFC-rPPG DATASET_2 or in another set's layout"
    made = commands.add_parser("synthesise", help=text, description=text)
    made.add_argument("out", metavar="DIR")
    made.add_argument("--seconds", type=float, help="length of each recording, default: 15; with --layout 10")
    made.add_argument("--seed", type=int, default=0)
    for part, number in {"train": 16, "valid": 4, "test": 8, "hard": 6, "control": 2}.items():
        made.add_argument(f"--{part}", type=int, metavar="N", help=f"people of that part, default: {number}")
    made.add_argument("--flicker", type=float, default=1.0, metavar="FACTOR",
                      help="strength of the light's flicker in the band of the pulse, default: 1")
    made.add_argument("--gap", action="store_true",
                      help="train on bright and still people, test on dark and moving ones, another camera")
    made.add_argument("--codec", choices=["mjpeg", "uncompressed"], help="default: mjpeg")
    made.add_argument("--workers", type=int, help="processes; default: one a core")
    made.add_argument("--layout", metavar="NAME", help="a small copy of a dataset, see `main.py list`")
    made.add_argument("--people", type=int, metavar="N", help="with --layout, default: 2")
    made.add_argument("--defects", nargs="+", metavar="NAME", help="with --layout: what to plant in it")


def dispatch(args: argparse.Namespace) -> int:
    """Import the command's module and run it; returns the exit code."""
    module, _, function = COMMANDS[args.command].partition(":")
    return getattr(importlib.import_module(module), function)(args)


def main(argv: list[str] | None = None) -> int:
    """Parse, run, and turn every ending into its exit code."""
    words = sys.argv[1:] if argv is None else argv
    args = parser().parse_args(words or ["run"])
    if args.command is None:
        parser().print_help()
        return 2
    gc.set_threshold(*COLLECTOR)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, at the first product on a GPU
    try:
        _refuse_hostile(args)
        return dispatch(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except Interrupted as stop:
        print(f"stopped; the same command continues{stop.hint}", file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        print("error: out of memory; use fewer workers, a smaller batch or a smaller size", file=sys.stderr)
        return 4
    except ModuleNotFoundError as error:
        print(f"error: the package {error.name} is not installed in {sys.executable}; run `make setup`, then "
              "use .venv/bin/python, or `source .venv/bin/activate` once", file=sys.stderr)
        return 2
    except OSError as error:
        return _system_error(error)
    except Exception:
        traceback.print_exc()
        return 1


def _refuse_hostile(args: argparse.Namespace) -> None:
    """UserError for a path or name that no message and no file of ours can hold as it is."""
    given = {name: value for name, value in vars(args).items() if name not in ("overrides", "grid")}
    for value in given.values():  # settings may be JSON of several lines, which is checked when it is read
        for word in value if isinstance(value, list) else [value]:
            if isinstance(word, str) and not is_plain(word):
                raise UserError(f"{word!a} holds a control character or bytes that are not UTF-8; "
                                "rename the file, or write the word without them")


def _system_error(error: OSError) -> int:
    """A full disk is a named cause, a path that cannot be used is the user's to mend, the rest is ours."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        print(f"error: disk full: {error.filename or error}; free some space and run again", file=sys.stderr)
        return 4
    if error.filename is not None and (error.errno in PATH_ERRORS or _is_of_mkdir(error)):
        print(f"error: {error.filename}: {error.strerror}; choose another path", file=sys.stderr)
        return 2
    traceback.print_exc()
    return 1


def _is_of_mkdir(error: OSError) -> bool:
    """Whether a folder could not be made: of one in /proc the system says that it is not there."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_name == "mkdir"


def _leave_at_once(number: int, frame: object) -> None:
    """Before the work begins there is nothing to save, and an import must not hide it."""
    os._exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, _leave_at_once)
    signal.signal(signal.SIGTERM, _leave_at_once)
    sys.exit(main())
