"""MAHNOB-HCI's quirks: sessions of three kinds, 61 fps, the Status channel, leads, hostile XML."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from preprocessing import sources
from preprocessing.frames import Frame, FrameReader, Series
from preprocessing.sources import mahnob_hci
from preprocessing.sources.mahnob_hci import ChosenFrames, read_session
from preprocessing.synthetic.layouts import make_take
from tests.made_sets import extracted, make
from utils.errors import UserError

SECONDS = 8.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("mahnob") / "raw", "mahnob_hci", people=1, seconds=SECONDS).root


def one(root: Path, **options: str) -> sources.RawRecording:
    return sources.build("mahnob_hci", root, **options).recordings()[0]


class Numbered(FrameReader):
    """Frames whose value is their index, 61 a second."""

    def __init__(self, n: int) -> None:
        self.n_declared, self.fps_declared, self.warnings, self.read = n, 61.0, [], 0

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.n_declared or 0):
            self.read += 1
            yield np.full((1, 1, 3), index % 256, dtype=np.uint8)

    @property
    def time_s(self) -> Series:
        return np.arange(self.read) / 61.0


def test_only_emotion_sessions_are_recordings(shared: Path) -> None:
    """A session without an emotion BDF is passed over; the count is held against 527."""
    assert (shared / "Sessions/100/session.xml").is_file()
    source = sources.build("mahnob_hci", shared)
    assert [(item.recording, item.subject) for item in source] == [("10", "1")]
    assert source.notes() == ["1 of 527 sessions of emotion elicitation"]
    assert [item.recording for item in sources.build("mahnob_hci", shared / "Sessions")] == ["10"]


def test_the_colour_video_is_taken(shared: Path) -> None:
    """C1 with its blanks in the name, never a grey camera, at the session's 60.97 a second."""
    recording = one(shared)
    assert "C1 trigger _C_Section" in recording.files()[1].name
    labels = recording.labels()
    assert len(labels.frame_time_s) == round(SECONDS * 60.97)
    np.testing.assert_allclose(np.diff(labels.frame_time_s), 1 / 60.97)


def test_signals_begin_with_the_video(shared: Path) -> None:
    """The Status channel's trigger bits cut ECG and respiration to the video, whatever the bits above say."""
    labels = one(shared).labels()
    take = make_take(0, 0, 0, SECONDS)
    assert labels.time_s[0] == 0
    assert labels.time_s[-1] == pytest.approx(SECONDS, abs=1 / 60.97 + 1 / 256)
    inside = labels.time_s < SECONDS - 1
    assert np.corrcoef(labels.resp, take.respiration(labels.resp_time_s))[0, 1] > 0.999
    wander = labels.samples - 900 * take.ecg(labels.time_s)
    assert np.ptp(np.diff(labels.samples[inside])) > 400
    assert np.abs(np.diff(wander[inside])).max() < 20


def test_the_rate_comes_from_r_peaks(shared: Path) -> None:
    """Four times a second the rate of the beat; pulse is NaN, as an ECG is none."""
    got = extracted(one(shared))
    rate, time_s = got.arrays["hr_bpm"], got.arrays["hr_time_s"]
    assert np.isnan(got.arrays["pulse"]).all()
    assert got.attributes["label_kind"] == "ecg"
    assert np.nanmean(rate) == pytest.approx(make_take(0, 0, 0, SECONDS).mean_rate_bpm, abs=1.0)
    np.testing.assert_allclose(np.diff(time_s), 0.25)
    assert np.isfinite(rate).mean() > 0.8


def test_leads_are_chosen_and_compared(tmp_path: Path) -> None:
    """exg1 to exg3 can be read; a lead that tells another rate than both others is named."""
    made = make(tmp_path / "raw", "mahnob_hci", people=1, seconds=SECONDS, defects=("noisy_lead",))
    true = make_take(0, 0, 0, SECONDS).mean_rate_bpm
    labels = one(made.root).labels()
    assert abs(np.nanmean(labels.hr_bpm) - true) > 5
    assert any("no other ECG lead agrees with exg3" in text for text in labels.warnings)
    for lead in ("exg1", "exg2"):
        other = one(made.root, ecg=lead).labels()
        assert np.nanmean(other.hr_bpm) == pytest.approx(true, abs=1.0)
        assert not any("agrees" in text for text in other.warnings)


@pytest.mark.parametrize("defect, message", [
    ("no_status", "the Status channel marks no video"),
    ("idle_status", r"marks 7.0 s, the video lasts 2.0 s; it is unknown where"),
    ("cut_signals", r"emotion\.bdf: .* states .* and holds"),
    ("document_type", r"session\.xml: a document type is declared"),
])
def test_damage_is_named(tmp_path: Path, defect: str, message: str) -> None:
    """Without triggers, with half a BDF, and with entities in its XML a session is refused by name."""
    made = make(tmp_path / "raw", "mahnob_hci", people=1, seconds=2.0, defects=(defect,))
    with pytest.raises(UserError, match=message):
        one(made.root).labels()


@pytest.mark.parametrize("text, message", [
    ("<session vidRate='61'><subject/></session>", "names no subject"),
    ("<session vidRate='61'><subject id='../1'/></session>", "names no subject"),
    ("<session vidRate='61'>", "not XML"), ("", "not XML"),
    ("<!DOCTYPE a [<!ENTITY b 'c'>]><session><subject id='1'/></session>", "document type"),
    ("<session><subject id='1'/>" + " " * (1 << 20) + "</session>", "larger than"),
])
def test_odd_xml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """Each way a session.xml can be wrong has its sentence."""
    (tmp_path / "session.xml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_session(tmp_path / "session.xml")


def test_the_subject_is_the_persons_not_the_recordings(tmp_path: Path) -> None:
    """The id of the subject's element counts, not one of the session or of a later element."""
    (tmp_path / "session.xml").write_text(
        "<session id='7' subject='8' vidRate='61'><subject id='12'/><subject id='13'/></session>")
    assert read_session(tmp_path / "session.xml") == {"subject": "12", "id": "7", "vidRate": "61"}


def test_no_rate_no_times(shared: Path, tmp_path: Path) -> None:
    """Without vidRate the frames have no times, and none are assumed."""
    made = make(tmp_path / "raw", "mahnob_hci", people=1, seconds=2.0)
    path = made.root / "Sessions/10/session.xml"
    path.write_text(path.read_text().replace("vidRate", "videoRate"))
    with pytest.raises(UserError, match="no vidRate"):
        one(made.root).labels()


def test_a_second_video_is_not_guessed(tmp_path: Path) -> None:
    """Two files that could be the colour video make the session fail, with the pattern."""
    made = make(tmp_path / "raw", "mahnob_hci", people=1, seconds=2.0)
    (made.root / "Sessions/10/x_C1 trigger _C_Section_4.avi").write_bytes(b"")
    with pytest.raises(UserError, match=r"2 files \*C1 trigger\*.avi; one is needed"):
        one(made.root).files()


def test_the_papers_window() -> None:
    """Frames 306 to 2135, every other one: 915 frames, their stamps, and nothing read behind the last."""
    inner = Numbered(3000)
    reader = ChosenFrames(inner, mahnob_hci.PAPER_FRAMES)
    values = [int(frame[0, 0, 0]) for frame in reader]
    assert values == [k % 256 for k in range(306, 2136, 2)]
    assert len(values) == reader.n_declared == 915
    assert inner.read == 2135
    np.testing.assert_allclose(reader.time_s, np.arange(306, 2136, 2) / 61)


def test_a_video_shorter_than_the_window_is_refused(shared: Path) -> None:
    """A video that ends within the window is an error with a remedy, not a shorter clip."""
    with pytest.raises(UserError, match='ends before frame 2134; read it with window = "whole"'):
        list(ChosenFrames(Numbered(2000), mahnob_hci.PAPER_FRAMES))
    with pytest.raises(UserError, match='read it with window = "whole"'):
        extracted(one(shared, window="paper"))


def test_the_window_keeps_its_times(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of a window keep their place in the recording, and so do the rates."""
    monkeypatch.setattr(mahnob_hci, "PAPER_FRAMES", range(122, 400, 2))
    got = extracted(one(shared, window="paper"))
    np.testing.assert_allclose(got.arrays["frame_time_s"], np.arange(122, 400, 2) / 60.97)
    assert got.arrays["hr_time_s"][0] == pytest.approx(122 / 60.97)
    assert got.arrays["hr_time_s"][-1] <= 400 / 60.97


def test_a_wrong_root_says_what_was_looked_for(tmp_path: Path) -> None:
    """A folder without sessions is refused with what is needed."""
    with pytest.raises(UserError, match="looked for Sessions/2"):
        sources.build("mahnob_hci", tmp_path)
