"""The command line: quick help, exit codes, messages instead of tracebacks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = [
    "run", "preprocess", "train", "evaluate", "predict", "import-weights", "table", "audit", "list", "doctor",
    "synthesise",
]


def call(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, str(ROOT / "main.py"), *words], cwd=cwd, env=env,
                          capture_output=True, text=True, timeout=300)


def test_help_imports_nothing_heavy() -> None:
    """--help needs neither torch, scipy, numpy, cv2, mediapipe, h5py nor matplotlib."""
    code = (
        "import sys, main\n"
        "try:\n    main.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'scipy', 'numpy', 'cv2', 'mediapipe', 'h5py', 'matplotlib', 'wandb'}\n"
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture) -> None:
    """Each command of the contract explains itself."""
    import main

    with pytest.raises(SystemExit) as stop:
        main.main([name, "--help"])
    assert stop.value.code == 0 and "usage" in capsys.readouterr().out


@pytest.mark.parametrize("words", [
    ["run", "absent.json"], ["evaluate", "absent"], ["table", "absent"], ["fly"],
    ["predict", "x.mp4", "--method", "physnet"], ["predict", "x.mp4", "--checkpoint", "absent.pt"],
    ["predict", "x.mp4", "--net", "physnet"], ["run", "--set", "train.epochs"],
])
def test_wrong_use_is_exit_2_without_traceback(words: list[str]) -> None:
    """Wrong use ends with exit code 2 and a sentence."""
    done = call(*words)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and done.stderr.strip()


def test_missing_video_is_named_with_exit_3(tmp_path: Path) -> None:
    """A video that cannot be read is named, and predict ends with exit code 3."""
    done = call("predict", str(tmp_path / "none.mp4"), "--method", "pos", "--out", str(tmp_path / "out"))
    assert done.returncode == 3, done.stderr
    assert "none.mp4" in done.stderr and "Traceback" not in done.stderr


def test_missing_dataset_folder_says_how_to_get_one(tmp_path: Path) -> None:
    """A root that is not there is a sentence with the folder in it."""
    done = call("preprocess", "--set", f"data.sets.0.root={tmp_path / 'no'}",
                "--set", f"data.store={tmp_path / 'store'}")
    assert done.returncode == 2, done.stderr
    assert str(tmp_path / "no") in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_while_starting(number: int, code: int, tmp_path: Path) -> None:
    """A signal during the imports ends the program with its code, not with an error of an import."""
    for delay_s in (0.3, 0.8):
        process = subprocess.Popen([sys.executable, str(ROOT / "main.py"), "list"], cwd=ROOT,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(delay_s)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode in (code, 0) and "Traceback" not in errors


def test_list_names_everything() -> None:
    """list prints the registered nets, methods, datasets, finders and protocols."""
    done = call("list")
    assert done.returncode == 0, done.stderr
    for word in ("physnet", "contrast_phys", "pos", "supervised", "ubfc_rppg_2", "mediapipe_mesh",
                 "toolbox2023"):
        assert word in done.stdout


def test_doctor_is_content_here() -> None:
    """doctor finds nothing wrong in the environment the tests run in."""
    done = call("doctor")
    assert done.returncode == 0, done.stdout + done.stderr


def test_missing_package_names_the_environment(tmp_path: Path) -> None:
    """Run by an interpreter without the packages, the program says where they are."""
    (tmp_path / "pydantic.py").write_text("raise ModuleNotFoundError('gone', name='pydantic')")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, str(ROOT / "main.py"), "doctor"], cwd=ROOT, env=env,
                          capture_output=True, text=True)
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr
    done = subprocess.run([sys.executable, str(ROOT / "main.py"), "run"], cwd=ROOT, env=env,
                          capture_output=True, text=True)
    assert done.returncode == 2 and "pydantic" in done.stderr and "make setup" in done.stderr


def test_a_path_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    """An output folder below a file is wrong use, named, without a traceback."""
    (tmp_path / "file").write_text("")
    done = call("synthesise", str(tmp_path / "file" / "below"), "--train", "1")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert str(tmp_path / "file" / "below") in done.stderr


def test_every_command_of_the_readme_is_one(capsys: pytest.CaptureFixture) -> None:
    """Each `python main.py ...` of the README is taken by the parser; each benchmark is a module."""
    import re
    import shlex

    import main

    text = (ROOT / "README.md").read_text()
    lines = re.findall(r"^python main\.py (.+)$", text, re.MULTILINE)
    lines += re.findall(r"`python main\.py ([^`]+)`", text)
    assert len(lines) >= 10
    for line in lines:
        words = shlex.split(line.partition("#")[0])
        try:
            main.parser().parse_args(words)
        except SystemExit as stop:
            assert stop.code == 0, line
    for name in re.findall(r"python -m benchmarks\.(\w+)", text):
        assert (ROOT / "benchmarks" / f"{name}.py").exists(), name
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)
    targets += re.search(r"^TABLES := (.+)$", makefile, re.MULTILINE)[1].split()
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= set(targets)
