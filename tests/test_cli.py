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


@pytest.mark.parametrize("words", [
    ["run", "a\0b.json"], ["predict", "a\nb.avi"], ["evaluate", "a\udcff"], ["table", "a", "b\x1b[2J"],
    ["run", "params.json", "--set", r'run.output="a\u0000b"'], ["evaluate", "x" * 300],
    ["predict", "x" * 300 + ".avi"], ["synthesise", "x" * 300, "--seconds", "1"],
])
def test_paths_that_cannot_be_are_wrong_use(words: list[str], capsys: pytest.CaptureFixture) -> None:
    """Control characters, bytes that are no text, and names too long for any disk: exit 2, a sentence."""
    import main

    assert main.main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "Traceback" not in told


def test_a_run_that_cannot_be_put_where_it_should_is_wrong_use(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Output in a ring of links, below /proc, or with a name too long: exit 2 with the path, nothing made."""
    import main

    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    for output, name in ((tmp_path / "ring", "a"), ("/proc/nowhere", "a"), (tmp_path, "x" * 300)):
        words = [f"run.output={output}", f"run.name={name}", f"data.store={tmp_path / 'store'}"]
        assert main.main(["run", *(part for word in words for part in ("--set", word))]) == 2
        told = capsys.readouterr().err
        assert str(output) in told and "choose another path" in told and "Traceback" not in told
    assert [path.name for path in tmp_path.iterdir()] == ["ring"]


def test_a_file_of_ours_that_is_lost_is_no_wrong_use(capsys: pytest.CaptureFixture) -> None:
    """A file that should be there and is not is a fault of the program, with its traceback."""
    import main

    try:
        Path("no/such/file").read_text()
    except OSError as error:
        assert main._system_error(error) == 1
    assert "Traceback" in capsys.readouterr().err


def test_settings_of_several_lines_are_possible() -> None:
    """A line break between the words of JSON is no control character of a path."""
    import main

    main._refuse_hostile(main.parser().parse_args(["run", "--set", "data.sets=[\n]"]))


def test_nothing_to_synthesise_is_wrong_use(tmp_path: Path) -> None:
    """Without a single person there is no data, and no folder of it."""
    none = [word for part in ("train", "valid", "test", "hard", "control") for word in (f"--{part}", "0")]
    done = call("synthesise", str(tmp_path / "made"), *none)
    assert done.returncode == 2 and "nothing to make" in done.stderr
    assert not (tmp_path / "made").exists()
