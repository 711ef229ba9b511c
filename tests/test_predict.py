"""What predict does with the folder it writes to."""

from __future__ import annotations

from pathlib import Path

import pytest

import main
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
