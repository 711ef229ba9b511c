"""BP4D+ and MMSE-HR: zipped pictures, 1 kHz files, tasks that are absent, hostile archives."""

from __future__ import annotations

import shutil
import struct
import tracemalloc
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from preprocessing import picture_zip, sources
from preprocessing.picture_zip import PictureZip, numbered_members, open_zip
from preprocessing.synthetic.layouts import make_take
from tests.made_sets import extracted, make
from utils.errors import UserError

SECONDS = 4.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("bp4d") / "raw", "bp4d", people=2, seconds=SECONDS).root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "raw", "bp4d", people=1, seconds=SECONDS).root


def one(root: Path, key: str = "F001_T2") -> sources.RawRecording:
    return next(item for item in sources.build("bp4d", root) if item.recording == key)


def jpeg(value: int = 128, side: int = 16) -> bytes:
    return cv2.imencode(".jpg", np.full((side, side, 3), value, np.uint8))[1].tobytes()


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for name, data in members.items():
            opened.writestr(zipfile.ZipInfo(name), data)
    return path


def test_zipped_and_unpacked_pictures_are_one_kind(shared: Path) -> None:
    """A subject's zip file and another's folder give recordings alike, T2 before T10, with V4V's people."""
    found = sources.build("bp4d", shared).recordings()
    assert [item.recording for item in found] == ["F001_T2", "F001_T10", "M010_T1"]
    assert {item.people for item in found} == {"bp4d"}
    for item in found:
        frames = list(item.open_frames())
        assert len(frames) == SECONDS * 25
        assert frames[0].shape == (139, 104, 3)


def test_unpacking_changes_nothing(root: Path) -> None:
    """The frames from the zip file are those of the unpacked pictures, which are preferred."""
    zipped = list(one(root).open_frames())
    with zipfile.ZipFile(root / "2D+3D/F001.zip") as opened:
        opened.extractall(root / "2D+3D")
    unpacked = one(root)
    assert unpacked.files()[0].suffix == ".jpg"
    for frame, other in zip(zipped, unpacked.open_frames(), strict=True):
        np.testing.assert_array_equal(frame, other)


def test_the_layout_of_mmse_hr_is_found(shared: Path, tmp_path: Path) -> None:
    """Pictures and measurements are found by subject and task, whatever the folders above are called."""
    for kind, place in (("2D+3D", "first 10 subjects 2D"), ("Physiology", "Phydata released/Phydata")):
        shutil.copytree(shared / kind / "M010", tmp_path / place / "M010")
    (found,) = sources.build("bp4d", tmp_path).recordings()
    assert found.recording == "M010_T1"
    assert len(found.labels().samples) == SECONDS * 1000


def test_labels_are_cut_to_the_video(shared: Path) -> None:
    """Pressure and respiration at 1 kHz, the device's rate a frame, all until the last frame."""
    labels = one(shared).labels()
    take = make_take(0, 0, 0, SECONDS)
    assert labels.kind == "bp"
    assert len(labels.samples) == len(labels.resp) == SECONDS * 1000
    assert np.corrcoef(labels.samples, take.pulse(labels.time_s))[0, 1] > 0.9999
    assert np.corrcoef(labels.resp, take.respiration(labels.resp_time_s))[0, 1] > 0.9999
    np.testing.assert_allclose(labels.hr_bpm, take.rate_bpm(labels.hr_time_s), atol=1e-3)
    np.testing.assert_allclose(labels.frame_time_s, np.arange(SECONDS * 25) / 25)


def test_a_measured_task_without_pictures_fails(tmp_path: Path) -> None:
    """A task that is in Physiology but not in the zip file is listed and refused, the others are read."""
    made = make(tmp_path / "raw", "bp4d", people=1, seconds=SECONDS, defects=("no_pictures",))
    assert [item.recording for item in made.recordings] == ["F001_T2", "F001_T10", "F001_T11"]
    with pytest.raises(UserError, match=r"F001.zip: no pictures in a folder T11"):
        extracted(one(made.root, "F001_T11"))
    assert len(list(one(made.root, "F001_T10").open_frames())) == 100


def test_people_without_pictures_are_noted(root: Path) -> None:
    """Measurements of people nobody pictured are no recordings, and are told."""
    folder = root / "Physiology/F099/T1"
    folder.mkdir(parents=True)
    (folder / "BP_mmHg.txt").write_text("90\n")
    source = sources.build("bp4d", root)
    assert [item.subject for item in source] == ["F001", "F001"]
    assert source.notes() == ["1 subjects have measurements but no pictures, the first is F099"]


def test_without_pressure_it_fails(root: Path) -> None:
    """A recording without its blood pressure is refused by name."""
    (root / "Physiology/F001/T2/BP_mmHg.txt").unlink()
    with pytest.raises(UserError, match="no blood pressure; looked for F001/T2/BP_mmHg.txt"):
        one(root).labels()


def test_other_series_may_be_missing(root: Path) -> None:
    """Without device rate, or with a respiration of another length, the recording is read and says so."""
    folder = root / "Physiology/F001/T2"
    (folder / "Pulse Rate_BPM.txt").unlink()
    (folder / "Resp_Volts.txt").write_text("0.1\n" * 500)
    labels = one(root).labels()
    assert len(labels.hr_bpm) == len(labels.resp) == 0
    assert "Pulse Rate_BPM.txt is not there" in labels.warnings
    assert any("Resp_Volts.txt: 500 values but" in text for text in labels.warnings)


def test_a_damaged_zip_file_costs_its_own_recordings_only(shared: Path, tmp_path: Path) -> None:
    """Half a zip file is refused by name; the other subjects are read."""
    made = make(tmp_path / "raw", "bp4d", people=2, seconds=SECONDS)
    path = made.root / "2D+3D/F001.zip"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"F001.zip: not a whole zip file"):
        extracted(one(made.root))
    assert len(one(made.root, "M010_T1").labels().samples)


@pytest.mark.parametrize("name", ["../T1/0.jpg", "/T1/0.jpg", "a/../../T1/0.jpg", "C:/T1/0.jpg"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    """A name that leaves the archive is refused, though nothing is ever unpacked to the disk."""
    path = archive(tmp_path / "F001.zip", {name: jpeg()})
    with open_zip(path) as opened, pytest.raises(UserError, match="leads out of the archive"):
        numbered_members(opened, "T1")


@pytest.mark.parametrize("names, message", [
    (("F001/T1/0.jpg", "copy/T1/1.jpg"), "pictures in F001/T1 and copy/T1"),
    (("T1/1.jpg", "T1/01.jpg"), "has no number, or one of another picture"),
    (("T1/first.jpg",), "has no number, or one of another picture"),
])
def test_unclear_pictures_are_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    """Two folders of one task, two pictures of one number, and one without a number have no order."""
    path = archive(tmp_path / "F001.zip", dict.fromkeys(names, jpeg()))
    with open_zip(path) as opened, pytest.raises(UserError, match=message):
        numbered_members(opened, "T1")


def test_pictures_are_ordered_by_number(tmp_path: Path) -> None:
    """9.jpg comes before 10.jpg, and T10 is not T1."""
    path = archive(tmp_path / "F001.zip", {
        "T1/10.jpg": jpeg(100), "T1/9.jpg": jpeg(50), "T10/1.jpg": jpeg(200), "T1/9.obj": b"v 0 0 0"})
    with open_zip(path) as opened:
        members = numbered_members(opened, "T1")
    assert members == ["T1/9.jpg", "T1/10.jpg"]
    reader = PictureZip(path, members, 25.0)
    assert [round(float(frame.mean())) for frame in reader] == [50, 100]
    assert reader.time_s.tolist() == [0, 0.04]


def test_a_picture_that_claims_gigabytes_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stated size of a member is looked at before it is unpacked."""
    monkeypatch.setattr(picture_zip, "MAX_BYTES", 100)
    path = archive(tmp_path / "F001.zip", {"T1/0.jpg": jpeg(side=64)})
    with pytest.raises(UserError, match=r"T1/0.jpg: .* bytes; no picture, not read"):
        list(PictureZip(path, ["T1/0.jpg"], 25.0))


def test_a_vast_index_is_not_read(tmp_path: Path) -> None:
    """An end record that states a vast index is refused before zipfile allocates it."""
    path = archive(tmp_path / "F001.zip", {"T1/0.jpg": jpeg()})
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end + 12 : end + 16] = struct.pack("<I", 2**31)
    path.write_bytes(data)
    with pytest.raises(UserError, match="states an index of 2,147,483,648 bytes"):
        open_zip(path)


def test_a_changed_picture_is_noticed(tmp_path: Path) -> None:
    """A flipped byte in a stored member fails its checksum, by name."""
    path = archive(tmp_path / "F001.zip", {"T1/0.jpg": jpeg()})
    data = bytearray(path.read_bytes())
    data[data.index(b"\xff\xd8") + 30] ^= 255
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"T1/0.jpg: cannot be unpacked"):
        list(PictureZip(path, ["T1/0.jpg"], 25.0))


def test_memory_does_not_grow_with_the_pictures(tmp_path: Path) -> None:
    """Two hundred pictures of 300 kB are read in the memory of a few."""
    noise = np.random.default_rng(0).integers(0, 255, (320, 320, 3), dtype=np.uint8)
    data = cv2.imencode(".png", noise)[1].tobytes()
    path = archive(tmp_path / "F001.zip", {f"T1/{k}.png": data for k in range(200)})
    with open_zip(path) as opened:
        members = numbered_members(opened, "T1")
    tracemalloc.start()
    try:
        assert sum(1 for _ in PictureZip(path, members, 25.0)) == 200
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_a_wrong_root_says_what_was_looked_for(tmp_path: Path) -> None:
    """A folder with measurements only is refused with what is needed."""
    (tmp_path / "Physiology/F001/T1").mkdir(parents=True)
    with pytest.raises(UserError, match=r"looked for 2D\+3D/F001.zip"):
        sources.build("bp4d", tmp_path)
