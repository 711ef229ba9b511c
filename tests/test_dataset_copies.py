"""Copies of datasets as they are in practice: what computers leave beside files, odd names, lost pictures."""

from __future__ import annotations

import errno
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from preprocessing import plan, sources
from preprocessing.sources.pure import Pure
from tests import made_sets
from tests.made_sets import Made
from utils.errors import UserError
from utils.settings import Preprocessing, RawSet

SECONDS = 4.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Writes a set once."""
    known: dict[str, Made] = {}

    def get(name: str) -> Made:
        if name not in known:
            root = tmp_path_factory.mktemp(name) / "raw"
            known[name] = made_sets.make(root, name, people=2, seconds=SECONDS)
        return known[name]

    return get


def litter(root: Path) -> None:
    """What a Mac and Windows leave: a shadow of every file, and files of their own in every folder."""
    for folder, _, names in list(os.walk(root)):
        for name in names:
            Path(folder, f"._{name}").write_bytes(b"\x00\x05\x16\x07 not a video, not a table")
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            Path(folder, name).write_bytes(b"\x00\x00\x00\x01Bud1")
    (root / "__MACOSX").mkdir()
    (root / ".Trashes").mkdir()


@pytest.mark.parametrize("name", sources.names())
def test_what_computers_leave_beside_files_changes_nothing(
    name: str, made: Callable[[str], Made], tmp_path: Path
) -> None:
    """With a hidden shadow of every file the same recordings have the same files, labels and frames."""
    clean = made(name)
    root = tmp_path / "raw"
    shutil.copytree(clean.root, root)
    litter(root)
    found = sources.build(name, root).recordings()
    assert [item.recording for item in found] == [item.recording for item in clean.recordings]
    for before, after in zip(clean.recordings, found, strict=True):
        assert after.subject == before.subject and after.conditions == before.conditions
        assert [path.relative_to(root) for path in after.files()] == [
            path.relative_to(clean.root) for path in before.files()]
        one, other = before.labels(), after.labels()
        np.testing.assert_array_equal(one.samples, other.samples)
        assert sum(1 for _ in after.open_frames()) == sum(1 for _ in before.open_frames())


@pytest.mark.parametrize("name", sources.names())
def test_links_and_spaces_change_nothing(name: str, made: Callable[[str], Made], tmp_path: Path) -> None:
    """A root whose name has a space, with links in place of its folders, one of them in a circle."""
    clean = made(name)
    root = tmp_path / "my data (copy)"
    root.mkdir()
    for path in clean.root.iterdir():
        (root / path.name).symlink_to(path)
    (root / "circle").symlink_to(root, target_is_directory=True)
    found = sources.build(name, root).recordings()
    assert [item.recording for item in found] == [item.recording for item in clean.recordings]
    assert len(found[0].labels().samples) == len(clean.recordings[0].labels().samples)


@pytest.mark.parametrize("name, folder, other", [
    ("ubfc_rppg_1", "5-gt", "my 5 gt"), ("lgi_ppgi", "alex/alex_resting", "alex b/alex b_resting"),
])
def test_a_folder_with_a_space_is_a_recording_like_the_others(
    name: str, folder: str, other: str, made: Callable[[str], Made], tmp_path: Path
) -> None:
    """A name that cannot be an id is written as one; no other recording is lost for it."""
    root = tmp_path / "raw"
    shutil.copytree(made(name).root, root)
    (root / other).parent.mkdir(exist_ok=True)
    (root / folder).rename(root / other)
    found = sources.build(name, root).recordings()
    assert len(found) == len(made(name).recordings)
    renamed = next(item for item in found if " " in item.subject)
    assert renamed.recording == Path(other).name.replace(" ", "_")
    assert len(renamed.labels().samples) and sum(1 for _ in renamed.open_frames())


def test_twins_are_found_beside_folders_with_spaces(tmp_path: Path) -> None:
    """Two equal videos are one subject, and each recording watches the other's file, whatever the names."""
    root = made_sets.make(tmp_path / "raw", "ubfc_rppg_1", people=1, seconds=2.0).root
    shutil.copytree(root / "5-gt", root / "my 5 gt")
    found = sources.build("ubfc_rppg_1", root).recordings()
    assert {item.subject for item in found} == {"5-gt"}
    assert all(len(item.files()) == 3 and item.files()[2].is_file() for item in found)


def test_a_missing_picture_of_bp4d_moves_no_other(made: Callable[[str], Made], tmp_path: Path) -> None:
    """Pictures keep the times of their numbers, a missing one is told, and a tenth missing is an error."""
    root = tmp_path / "raw"
    shutil.copytree(made("bp4d").root, root)
    folder = root / "2D+3D" / "M010" / "T1"
    (folder / "0040.jpg").unlink()
    labels = next(item for item in sources.build("bp4d", root) if item.subject == "M010").labels()
    assert labels.frame_time_s is not None
    np.testing.assert_allclose(labels.frame_time_s[[39, 40, -1]], [39 / 25, 41 / 25, (SECONDS * 25 - 1) / 25])
    assert labels.warnings[0] == "1 pictures are missing by their numbers"
    assert labels.samples.shape == (SECONDS * 1000,)
    for number in range(50, 60):
        (folder / f"{number:04d}.jpg").unlink()
    with pytest.raises(UserError, match="by their numbers 11 of 100 pictures are missing"):
        next(item for item in sources.build("bp4d", root) if item.subject == "M010").labels()


def test_a_zip_file_packed_on_a_mac_is_read(made: Callable[[str], Made], tmp_path: Path) -> None:
    """The shadows that a Mac packs beside the pictures, in __MACOSX, are no pictures."""
    root = tmp_path / "raw"
    shutil.copytree(made("bp4d").root, root)
    with zipfile.ZipFile(root / "2D+3D" / "F001.zip", "a") as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
        for name in names:
            folder, _, file = f"__MACOSX/{name}".rpartition("/")
            archive.writestr(f"{folder}/._{file}", b"\x00\x05\x16\x07")
    for item in sources.build("bp4d", root):
        assert sum(1 for _ in item.open_frames()) == SECONDS * 25


def test_pictures_that_rows_lack_are_told(made: Callable[[str], Made], tmp_path: Path) -> None:
    """An iBVP recording with a picture less than its table has rows says so."""
    root = tmp_path / "raw"
    shutil.copytree(made("ibvp").root, root)
    item = sources.build("ibvp", root).recordings()[0]
    before = len(item.labels().samples)
    item.files()[20].unlink()
    assert f"{before - 1} pictures for {before} rows" in " ".join(item.labels().warnings)


@pytest.mark.parametrize("name, folder, whole", [
    ("pure", "1-1", "59 recordings"), ("ubfc_rppg_2", "Subject5", "42 subjects"),
    ("ubfc_phys", "S3", "168 recordings"), ("lgi_ppgi", "Alex 2", "24 recordings"),
    ("cohface", "01", "160 recordings"), ("mmpd", "Subject4", "660 recordings"),
])
def test_what_a_copy_lacks_is_said(
    name: str, folder: str, whole: str, made: Callable[[str], Made], tmp_path: Path
) -> None:
    """A copy that is not whole says how much there is, and names folders that no recording is read from."""
    root = tmp_path / "raw"
    shutil.copytree(made(name).root, root)
    assert len(sources.build(name, root).notes()) == 1
    (root / folder).mkdir()
    first, second = sources.build(name, root).notes()
    assert whole in first and second.endswith(f"not the dataset's: {folder}")


def test_a_folder_that_cannot_be_listed_is_named(
    made: Callable[[str], Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A root without the right to read it is an error by its path, never a traceback."""
    def refuse(self: object) -> list[object]:
        raise PermissionError(errno.EACCES, "Permission denied", str(made("pure").root / "01-01"))

    monkeypatch.setattr(Pure, "recordings", refuse)
    chosen = RawSet(name="pure", root=str(made("pure").root))
    with pytest.raises(UserError, match=r"data\.sets: pure: .*01-01: Permission denied"):
        plan.make([chosen], tmp_path / "store", Preprocessing(), False)
