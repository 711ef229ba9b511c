"""What predict does with the folder it writes to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import main
import nets
from commands.predict import choose, predict_video
from utils.errors import UserError
from utils.files import write_json


def test_no_video_takes_another_ones_place(tmp_path: Path) -> None:
    """Where all videos have one name, the second is refused; the same one may be predicted again."""
    out = tmp_path / "out" / "vid"
    out.mkdir(parents=True)
    write_json(out / "summary.json", {"path": str((tmp_path / "subject1" / "vid.avi").resolve())})
    predictor = choose(main.parser().parse_args(["predict", "v", "--method", "pos"]))
    with pytest.raises(UserError, match="holds the prediction of .*subject1.*--out"):
        predict_video(predictor, tmp_path / "subject2" / "vid.avi", out)
    with pytest.raises(UserError, match="no such video file"):
        predict_video(predictor, tmp_path / "subject1" / "vid.avi", out)


def told(capsys: pytest.CaptureFixture, code: int, *words: str) -> str:
    """What predict says on standard error; it must end with that exit code."""
    assert main.main(["predict", *words]) == code
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize("name", ["...avi", "..avi", "..", "x" * 210 + ".avi"])
def test_a_name_that_is_no_folder_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Results never go to the folder above, nor are others predicted before that is said."""
    out = tmp_path / "out"
    assert "rename the video" in told(capsys, 2, "fine.avi", str(tmp_path / name), "--out", str(out))
    assert not list(tmp_path.iterdir())


def test_failed_videos_leave_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Neither their own nor those above it; a folder that was there stays."""
    bad = tmp_path / "a b ü 心.avi"
    bad.write_bytes(b"no video")
    assert bad.name in told(capsys, 3, str(bad), "--out", str(tmp_path / "deep" / "out"))
    (tmp_path / "there" / bad.stem).mkdir(parents=True)
    told(capsys, 3, str(bad), "--out", str(tmp_path / "there"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [bad.name, "there"]
    assert (tmp_path / "there" / bad.stem).is_dir()


def test_a_face_finder_is_checked_before_any_video(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """An unknown one, and one without its model file, by the word of the command line."""
    out = str(tmp_path / "out")
    text = told(capsys, 2, "v.avi", "--face-finder", "nosuch", "--out", out)
    assert "--face-finder" in text and "mediapipe_mesh" in text and "preprocessing" not in text
    assert "model file" in told(capsys, 2, "v.avi", "--face-finder", "mediapipe_tasks", "--out", out)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_file_leads_to_its_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """With or without --net, the run folder is what predict wants."""
    path = tmp_path / "runs" / "a" / "checkpoints" / "best.pt"
    path.parent.mkdir(parents=True)
    torch.save({"format": 1, "identity": {}, "method": {}}, path)
    for more in ([], ["--net", "physnet"]):
        text = told(capsys, 2, "v.avi", "--checkpoint", str(path), *more)
        assert f"give the run folder {tmp_path / 'runs' / 'a'}\n" in text


def test_weights_with_code_are_refused_without_torchs_advice(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Nobody is told to load them in the way that executes what is in them."""
    torch.save({"net": nets.build("physnet")}, tmp_path / "w.pt")
    text = told(capsys, 2, "v.avi", "--checkpoint", str(tmp_path / "w.pt"), "--net", "physnet")
    assert "tensors and plain values only, not nets.physnet" in text
    assert "weights_only" not in text and "two options" not in text
