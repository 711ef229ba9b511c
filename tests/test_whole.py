"""From raw synthetic video to the table, by the command line alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
ENV = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "disabled"}
SAME_BITS = ("split.json", "waveforms.h5", "windows.csv", "metrics.json", "table.md")


def call(cwd: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(ROOT / "main.py"), *words], cwd=cwd, env=ENV,
                          capture_output=True, text=True, timeout=600)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests(run: Path) -> dict[str, str]:
    return {name: digest(run / name) for name in SAME_BITS}


def write_params(folder: Path, name: str, **changes: dict) -> str:
    params = {
        "data": {"sets": [{"name": "ubfc_rppg_2", "root": "raw"}], "store": "store"},
        "split": {"scheme": "lists", "file": "raw/lists.json"},
        "net": {"name": "physnet", "input": {"frames": 64, "size": 16}},
        "train": {"epochs": 3, "batch": 2, "checkpoint_steps": 1},
        "evaluation": {"bootstrap": 50},
        "logging": {"every": 1},
        "run": {"name": name, "threads": 1},
    }
    for section, values in changes.items():
        params[section] = {**params.get(section, {}), **values}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(params))
    return path.name


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny synthetic set, its store, and one finished run "first"."""
    folder = tmp_path_factory.mktemp("whole")
    made = call(folder, "synthesise", "raw", "--train", "3", "--valid", "1", "--test", "2", "--hard", "1",
                "--control", "1", "--seconds", "8")
    assert made.returncode == 0, made.stderr
    done = call(folder, "run", write_params(folder, "first"))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_run_folder_is_complete(home: Path) -> None:
    """A finished run holds every file of the contract."""
    run = home / "runs" / "first"
    for name in ("params.json", "environment.json", "split.json", "log.jsonl", "waveforms.h5",
                 "windows.csv", "metrics.json", "table.md", "report.html", "checkpoints/last.pt",
                 "checkpoints/previous.pt", "checkpoints/best.pt"):
        assert (run / name).stat().st_size > 0, name
    assert list((run / "figures").glob("*.png"))


def test_metrics_follow_the_contract(home: Path) -> None:
    """metrics.json has the protocol, the counts, and rows for net, classical and constant."""
    metrics = json.loads((home / "runs/first/metrics.json").read_text())
    assert metrics["protocol"]["name"] == "default"
    assert metrics["test"] == {**metrics["test"], "n_subjects": 2, "n_recordings": 2, "n_missing": 0,
                               "missing": []}
    rows = {row["method"]: row for row in metrics["rows"]}
    assert set(rows) == {"physnet", "green", "chrom", "pos", "constant"}
    keys = {"mae_bpm", "rmse_bpm", "sd_bpm", "me_bpm", "mape_percent", "pearson_r", "snr_db", "macc", "n"}
    assert keys <= set(rows["pos"])
    assert rows["pos"]["ci95"] is None and "ci95" in rows["pos"]["reasons"]
    assert rows["pos"]["mae_bpm"] < 6


def test_no_subject_is_on_two_sides(home: Path) -> None:
    """split.json lists subjects and recordings of each part, and no one twice."""
    parts = json.loads((home / "runs/first/split.json").read_text())["parts"]
    people = [subject for part in parts.values() for subject in part["subjects"]]
    assert len(people) == len(set(people)) == 8


def test_the_control_has_its_own_row(home: Path) -> None:
    """Recordings without a pulse are judged as found or not, outside the error table."""
    metrics = json.loads((home / "runs/first/metrics.json").read_text())
    rows = metrics["parts"]["control"]["rows"]
    assert {row["method"] for row in rows} >= {"physnet", "pos"}
    assert all(isinstance(row["found"], bool) for row in rows)


def test_finished_run_says_so(home: Path) -> None:
    """The same command again names the folder, exits 0 and changes nothing."""
    before = digests(home / "runs/first")
    again = call(home, "run", "first.json")
    assert again.returncode == 0 and "finished" in again.stdout and "first" in again.stdout
    assert digests(home / "runs/first") == before


def test_run_with_other_params_is_refused(home: Path) -> None:
    """A run folder made with other params is refused, naming the setting and both values."""
    other = call(home, "run", "first.json", "--set", "train.learning_rate=0.5")
    assert other.returncode == 2
    assert "train.learning_rate" in other.stderr and "0.5" in other.stderr and "0.009" in other.stderr


def test_same_params_give_the_same_bits(home: Path) -> None:
    """From raw video to metrics.json: a second store and a second run are bit-identical."""
    params = write_params(home, "second", data={"store": "store2"})
    done = call(home, "run", params)
    assert done.returncode == 0, done.stderr
    assert digests(home / "runs/first") == digests(home / "runs/second")
    for path in (home / "store/ubfc_rppg_2").glob("*.h5"):
        assert digest(path) == digest(home / "store2/ubfc_rppg_2" / path.name), path.name
    shutil.rmtree(home / "store2")


def test_evaluate_rescores_without_a_network(home: Path, tmp_path: Path) -> None:
    """evaluate under the run's own protocol repeats every number of the run."""
    done = call(home, "evaluate", "runs/first", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    again = json.loads((tmp_path / "metrics.default.json").read_text())
    first = json.loads((home / "runs/first/metrics.json").read_text())
    assert again["rows"] == first["rows"] and again["parts"] == first["parts"]
    assert again["split"] == first["split"] and again["vital_signs"] == first["vital_signs"]


def test_evaluate_takes_anyones_waveforms(home: Path, tmp_path: Path) -> None:
    """A minimal file of the contract's form, made by hand, can be scored."""
    time_s = np.arange(600) / 30
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        for index, rate in enumerate((60, 90)):
            group = file.create_group(f"any.rec{index}")
            group.attrs.update(subject=f"s{index}", dataset="any", fps=30.0)
            group["time_s"] = time_s
            group["label"] = np.sin(2 * np.pi * rate / 60 * time_s).astype(np.float32)
            group["prediction/mine"] = np.sin(2 * np.pi * (rate + 3) / 60 * time_s).astype(np.float32)
    done = call(home, "evaluate", str(tmp_path / "mine.h5"))
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "metrics.default.json").read_text())["rows"][0]
    assert row["method"] == "mine" and abs(row["mae_bpm"] - 3) < 0.05


def test_table_over_runs(home: Path, tmp_path: Path) -> None:
    """table prints the run's rows and writes Markdown, CSV and LaTeX."""
    done = call(home, "table", "runs/first", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "physnet" in done.stdout and "first" in done.stdout
    for suffix in ("md", "csv", "tex"):
        assert "physnet" in (tmp_path / f"table.{suffix}").read_text()


def test_predict_with_a_run_and_with_pos(home: Path, tmp_path: Path) -> None:
    """predict takes a run folder or a classical method, and writes the four files."""
    video = next((home / "raw").glob("subject*/vid.avi"))
    for words in (["--checkpoint", "runs/first"], ["--method", "pos"]):
        done = call(home, "predict", str(video), "--out", str(tmp_path), *words)
        assert done.returncode == 0, done.stderr
        summary = json.loads((tmp_path / "vid/summary.json").read_text())
        assert summary["n_frames"] == summary["n_frames_with_face"] > 200
        for name in ("waveform.csv", "heart_rate.csv", "plot.png"):
            assert (tmp_path / "vid" / name).stat().st_size > 0


def test_train_reads_no_test_recording(home: Path) -> None:
    """train ends without waveforms or metrics; run then goes on from its checkpoint."""
    params = write_params(home, "staged")
    trained = call(home, "train", params)
    run = home / "runs" / "staged"
    assert trained.returncode == 0, trained.stderr
    assert not (run / "waveforms.h5").exists() and not (run / "metrics.json").exists()
    assert call(home, "run", params, "--resume").returncode == 0
    assert digests(run)["waveforms.h5"] == digests(home / "runs/first")["waveforms.h5"]


def test_resume_needs_a_run(home: Path) -> None:
    """--resume without a run folder is wrong use."""
    done = call(home, "run", write_params(home, "never"), "--resume")
    assert done.returncode == 2 and "no run to resume" in done.stderr


def test_failed_recording_changes_the_exit_code(home: Path) -> None:
    """A recording that cannot be used is named, counted in the results, and the exit code is 3."""
    raw = home / "raw_broken"
    shutil.copytree(home / "raw", raw)
    lists = json.loads((raw / "lists.json").read_text())
    (raw / lists["test"][0] / "ground_truth.txt").write_text("")
    params = write_params(home, "broken", data={"sets": [{"name": "ubfc_rppg_2", "root": "raw_broken"}],
                                                "store": "store3"},
                          split={"file": "raw_broken/lists.json"})
    done = call(home, "run", params)
    assert done.returncode == 3, done.stdout + done.stderr
    assert lists["test"][0] in done.stderr
    test = json.loads((home / "runs/broken/metrics.json").read_text())["test"]
    assert test["n_missing"] == 1 and lists["test"][0] in test["missing"][0]


def test_verify_finds_repeated_trainings_identical(home: Path) -> None:
    """run.verify trains several times and reports identical loss curves."""
    done = call(home, "run", "first.json", "--set", "run.verify=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "identical" in done.stdout
    assert json.loads((home / "runs/first.verify.json").read_text())["identical"] is True


def interrupted(home: Path, params: str, number: int, after_s: float) -> int:
    """Start a run, send it a signal after a while, and return its exit code."""
    process = subprocess.Popen([sys.executable, str(ROOT / "main.py"), "run", params], cwd=home, env=ENV,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(after_s)
    process.send_signal(number)
    return process.wait(timeout=120)


def campaign(home: Path, name: str, number: int, delays: list[float]) -> None:
    """Interrupt a run again and again, then let it finish: the bits are those of the first run."""
    params = write_params(home, name, data={"store": f"store_{name}"})
    codes = [interrupted(home, params, number, delay) for delay in delays]
    allowed = {signal.SIGKILL: {-9, 0}, signal.SIGTERM: {143, -15, 0}, signal.SIGINT: {130, -2, 0}}
    assert set(codes) <= allowed[signal.Signals(number)], codes
    done = call(home, "run", params)
    assert done.returncode == 0, done.stdout + done.stderr
    assert digests(home / "runs" / name) == digests(home / "runs/first")
    shutil.rmtree(home / f"store_{name}")


def test_killed_runs_end_with_the_same_bits(home: Path) -> None:
    """kill -9 during preprocessing and during training: the restart ends bit-identical."""
    campaign(home, "killed", signal.SIGKILL, [3.0, 7.0])


def test_terminated_run_is_resumable(home: Path) -> None:
    """SIGTERM ends the run with 143, and the restart ends bit-identical."""
    campaign(home, "terminated", signal.SIGTERM, [6.5])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_twenty_interruptions(home: Path, number: int) -> None:
    """Twenty interruptions at random moments of the whole run: the same bits in the end."""
    rng = np.random.default_rng(int(number))
    for chain in range(5):
        campaign(home, f"chain{int(number)}_{chain}", number, list(rng.uniform(1.5, 12, 4)))


def test_weights_are_tested_without_a_training_part(home: Path) -> None:
    """`train.epochs` 0 with `init_from` asks for a test part only, and names whom the weights know."""
    people = sorted(json.loads((home / "runs/first/split.json").read_text())["parts"]["train"]["subjects"])
    names = [name.partition("/")[2] for name in people]
    params = write_params(home, "given", train={"epochs": 0}, split={"file": None, "lists": {"test": names}},
                          net={"init_from": "runs/first"}, logging={"figures": False})
    done = call(home, "run", params)
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((home / "runs/given/metrics.json").read_text())
    assert metrics["training"] == {"datasets": ["ubfc_rppg_2"], "origins": ["synthetic"]}
    assert metrics["split"]["start_leaks"] == ["LEAKS: the weights it starts from know 3 subjects of test"]
    first, given = (torch.load(home / "runs" / name / "checkpoints/best.pt", weights_only=True)["method"]
                    for name in ("first", "given"))
    assert all(torch.equal(first[key], given[key]) for key in first)


def test_a_net_trained_without_labels_goes_on_with_them(home: Path) -> None:
    """`init_from` takes REA out of a run of LFA/REA; with `only`, its last layers learn from labels."""
    shared = {"data": {"clips_per_recording": 1}, "train": {"epochs": 1, "monitor": "loss"},
              "logging": {"figures": False, "summary": False},
              "evaluation": {"bootstrap": 0, "vital_signs": False, "classical": []}}
    small = {"frames": 32, "size": 8}
    first = write_params(home, "without", **shared, method={"name": "ssl_lfa_rea"}, net={
        "name": "lfa_rea", "options": {"width": 4, "lfa_width": 4}, "input": small})
    last = ["experts.head", "gate.head", "fusion"]
    second = write_params(home, "linear", **shared, method={"options": {"only": last}}, net={
        "name": "rea", "options": {"width": 4}, "input": small, "init_from": "runs/without"})
    for command, params in (("train", first), ("run", second)):
        done = call(home, command, params)
        assert done.returncode == 0, done.stdout + done.stderr
    before, after = (torch.load(home / "runs" / name / "checkpoints" / "best.pt", weights_only=True)["method"]
                     for name in ("without", "linear"))
    for key in (key for key in after if key.endswith("weight")):
        same = torch.equal(after[key], before[key.replace("net.", "net.rea.")])
        assert same != any(part in key for part in last), key
    row = json.loads((home / "runs" / "linear" / "metrics.json").read_text())["rows"][0]
    assert row["method"] == "rea" and row["n"] == 2
