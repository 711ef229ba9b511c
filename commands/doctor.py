"""doctor: is this environment able to do the work?"""

from __future__ import annotations

import argparse
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

from utils.files import read_json
from utils.runlog import say

NEEDED_FREE_GB = 2.0


def doctor(args: argparse.Namespace) -> int:
    """Print one line a check; exit code 2 when one fails."""
    failed = 0
    for check in (_python, _packages, _one_cv2, _face_mesh, _devices, _disk, _schema):
        try:
            good, text = check()
        except Exception as error:
            good, text = False, f"{check.__name__.strip('_')}: {type(error).__name__}: {error}"
        say(f"{'ok  ' if good else 'FAIL'}  {text}")
        failed += not good
    return 2 if failed else 0


def _python() -> tuple[bool, str]:
    version = sys.version_info[:2]
    return (3, 11) <= version < (3, 13), f"python {version[0]}.{version[1]} (3.11 or 3.12 is needed)"


def _packages() -> tuple[bool, str]:
    """Installed versions against requirements.txt, and pip's own consistency check."""
    wrong = []
    for line in Path("requirements.txt").read_text(encoding="utf-8").splitlines():
        name, pinned, version = line.partition("==")
        if pinned and not line.startswith(("#", "-")):
            have = _version(name)
            if have.partition("+")[0] != version.partition("+")[0]:
                wrong.append(f"{name} {have} instead of {version}")
    pip = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    if pip.returncode:
        wrong.append(pip.stdout.strip() or pip.stderr.strip())
    return not wrong, "packages: " + ("as pinned, consistent" if not wrong else "; ".join(wrong))


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _one_cv2() -> tuple[bool, str]:
    """Exactly one package provides cv2, and it reads video without a screen."""
    import cv2

    providers = [d.metadata["Name"] for d in importlib.metadata.distributions()
                 if any(str(f).startswith("cv2/__init__") for f in d.files or [])]
    info = cv2.getBuildInformation()
    headless = any(line.split(":")[1].strip() == "NONE" for line in info.splitlines()
                   if line.strip().startswith("GUI:"))
    ffmpeg = "FFMPEG:                      YES" in info
    good = len(providers) == 1 and headless and ffmpeg and cv2.__version__.startswith("4.11")
    return good, (f"cv2 {cv2.__version__} from {', '.join(providers)}, "
                  f"{'headless' if headless else 'with a GUI'}, FFMPEG {'yes' if ffmpeg else 'NO'}")


def _face_mesh() -> tuple[bool, str]:
    """The face mesh finds the face of a photograph that ships with matplotlib."""
    import cv2
    import matplotlib.cbook

    from preprocessing.face import FACE_FINDERS

    path = str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    picture = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
    look = FACE_FINDERS.build("mediapipe_mesh").look(picture)
    found = look.landmarks is not None
    return found, f"mediapipe {_version('mediapipe')}: face mesh {'works' if found else 'finds no face'}"


def _devices() -> tuple[bool, str]:
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    gpu = ", ".join(names) if names else "no CUDA device"
    return True, f"torch {torch.__version__}, {torch.get_num_threads()} CPU threads, {gpu}"


def _disk() -> tuple[bool, str]:
    free = shutil.disk_usage(".").free / 1e9
    return free >= NEEDED_FREE_GB, f"disk: {free:.1f} GB free here"


def _schema() -> tuple[bool, str]:
    from utils.config import schema

    same = read_json(Path("params.schema.json")) == schema()
    return same, "params.schema.json is " + ("current" if same else "not that of this code")
