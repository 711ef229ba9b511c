"""iBVP as its reader finds it: poor stretches masked and never cut out, pictures at their own rows."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from preprocessing import defects, sources
from preprocessing.resample import align
from preprocessing.sources import RawRecording
from utils.errors import UserError

N = 120


def write(root: Path, name: str = "p02_a", numbers: list[int] | None = None, sq2: np.ndarray | None = None,
          header: str = "BVP,SQPhysMD,SQ1,SQ2,Perfusion\r\n") -> Path:
    folder = root / name
    (folder / f"{name}_rgb").mkdir(parents=True)
    for number in range(N) if numbers is None else numbers:
        picture = np.full((4, 6, 3), number % 256, np.uint8)
        cv2.imwrite(str(folder / f"{name}_rgb" / f"{name}_{number}.bmp"), picture)
    quality = np.ones(N) if sq2 is None else sq2
    rows = [f"{np.sin(i / 4):.5f},1,1,{q:.2f},2.5" for i, q in enumerate(quality)]
    (folder / f"{name}_bvp.csv").write_text(header + "\r\n".join(rows) + "\r\n")
    return folder


def only(root: Path, **options: object) -> RawRecording:
    return sources.build("ibvp", root, **options).recordings()[0]


def test_poor_stretches_are_unknown_and_time_goes_on(tmp_path: Path) -> None:
    """SQ2 up to 0.3 makes NaN in place: the samples after it keep their times."""
    quality = np.ones(N)
    quality[30:50] = 0.3
    write(tmp_path, sq2=quality)
    labels = only(tmp_path).labels()
    assert len(labels.samples) == N and np.isnan(labels.samples[30:50]).all()
    assert np.isfinite(np.delete(labels.samples, range(30, 50))).all()
    assert "20 of 120 samples have SQ2 up to 0.3" in labels.warnings[0]
    pulse = align(labels, labels.frame_time_s, "timestamps", "r").pulse
    assert np.isnan(pulse[30:50]).all() and pulse[60] == pytest.approx(np.sin(60 / 4), abs=1e-3)


def test_poor_stretches_may_be_kept(tmp_path: Path) -> None:
    """The option quality = "keep" leaves every sample, and the warning."""
    write(tmp_path, sq2=np.full(N, 0.1))
    labels = only(tmp_path, quality="keep").labels()
    assert np.isfinite(labels.samples).all() and len(labels.warnings) == 1


def test_a_label_poor_for_most_of_the_time_is_refused(tmp_path: Path) -> None:
    """More than half masked is no label any more."""
    write(tmp_path, sq2=np.full(N, 0.1))
    labels = only(tmp_path).labels()
    with pytest.raises(UserError, match="120 of 120 label samples are missing"):
        align(labels, labels.frame_time_s, "timestamps", "r")


def test_a_missing_picture_moves_no_other(tmp_path: Path) -> None:
    """Pictures whose numbers count the rows lie at the times of their rows."""
    write(tmp_path, numbers=[n for n in range(N) if n != 40])
    time_s = only(tmp_path).labels().frame_time_s
    assert time_s is not None and len(time_s) == N - 1
    assert time_s[39] == pytest.approx(39 / 30) and time_s[40] == pytest.approx(41 / 30)


def test_pictures_of_other_numbers_lie_one_after_the_other(tmp_path: Path) -> None:
    """Numbers that do not count rows give the order only."""
    write(tmp_path, numbers=[7 * n for n in range(N)])
    np.testing.assert_allclose(only(tmp_path).labels().frame_time_s, np.arange(N) / 30)


def test_pictures_are_ordered_by_number(tmp_path: Path) -> None:
    """Picture 10 comes after picture 9."""
    write(tmp_path)
    assert [int(frame[0, 0, 0]) for frame in only(tmp_path).open_frames()] == list(range(N))


def test_too_few_pictures_are_refused(tmp_path: Path) -> None:
    """A tenth of the pictures missing is a damaged recording."""
    write(tmp_path, numbers=list(range(N - 12)))
    with pytest.raises(UserError, match="108 pictures for 120 rows"):
        only(tmp_path).labels()


@pytest.mark.parametrize("header", ["", "bvp, sqphysmd, sq1, sq2, perfusion\n"])
def test_the_table_may_lack_its_header(tmp_path: Path, header: str) -> None:
    """Without a header the columns are those of the set, in its order; case and spaces do not matter."""
    write(tmp_path, header=header)
    np.testing.assert_allclose(only(tmp_path).labels().samples, np.sin(np.arange(N) / 4), atol=1e-5)


def test_a_table_of_other_columns_is_refused(tmp_path: Path) -> None:
    """A header without pulse or quality is not guessed at."""
    write(tmp_path, header="ppg,a,b,c,d\r\n")
    with pytest.raises(UserError, match="no column BVP, SQPhysMD, SQ1, SQ2, Perfusion"):
        only(tmp_path).labels()


def test_sessions_of_one_person_have_one_subject(tmp_path: Path) -> None:
    """pNN is the person, the letter the session; p2 before p10."""
    for name in ("p10_a", "p2_b", "p2_a"):
        write(tmp_path, name, numbers=[0])
    items = sources.build("ibvp", tmp_path).recordings()
    found = [(item.subject, item.recording, item.conditions["session"]) for item in items]
    assert found == [("p2", "p2_a", "a"), ("p2", "p2_b", "b"), ("p10", "p10_a", "a")]


def test_people_who_must_not_be_shown_are_listed() -> None:
    """All sessions of the seven people are in the shipped list."""
    assert {name[:3] for name in defects.hidden("ibvp")} == {"p08", "p10", "p13", "p16", "p29", "p31", "p33"}
    assert len(defects.hidden("ibvp")) == 28


def test_a_part_of_the_set_is_said_to_be_one(tmp_path: Path) -> None:
    """Fewer sessions than the set has are a note."""
    write(tmp_path, numbers=[0])
    assert sources.build("ibvp", tmp_path).notes() == ["1 of 124 sessions"]
