"""The store's files: whole or absent, the same bytes every time, and nothing hostile is followed."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import resource
import shutil
import subprocess
import sys
import uuid
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import h5py
import numpy as np
import pytest

from preprocessing.manifest import Manifest
from preprocessing.store import RecordingWriter, StoredRecording, estimate_bytes
from utils import files, hdf5
from utils.errors import Stopped, UserError

SIZE = 16
ROOT = Path(__file__).resolve().parent.parent


def frames_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (n, SIZE, SIZE, 3), dtype=np.uint8)


def write(path: Path, n: int = 75, block: int = 7) -> np.ndarray:
    """Write a small recording in blocks; returns its frames."""
    frames = frames_of(n)
    with RecordingWriter(path, SIZE) as writer:
        for start in range(0, n, block):
            writer.append("frames", frames[start : start + block])
        writer.append("landmarks", np.zeros((n, 468, 2), np.float16))
        arrays = {"frame_time_s": np.arange(n) / 30, "pulse": np.arange(n), "face_found": np.ones(n, bool)}
        writer.finish(arrays, {"fps": 30.0, "region_names": ["cheek", "chin"], "n_frames": n})
    return frames


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Frames, arrays and attributes come back as they went in, with the types of the contract."""
    frames = write(tmp_path / "a.h5")
    stored = StoredRecording(tmp_path / "a.h5")
    assert stored.n_frames == 75
    assert np.array_equal(stored.read_frames(0, 75), frames)
    assert stored.array("pulse").dtype == np.float32
    assert np.array_equal(stored.array("pulse", 3, 6), [3, 4, 5])
    assert stored.array("face_found").dtype == bool
    assert stored.attributes == {"fps": 30.0, "region_names": ["cheek", "chin"], "n_frames": 75}
    assert "landmarks" in stored and "skin" not in stored


def test_the_layout_is_that_of_the_contract(tmp_path: Path) -> None:
    """Frames lie in uncompressed chunks of 32 and the dataset has the exact length."""
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["frames"].chunks == (32, SIZE, SIZE, 3)
        assert file["frames"].shape == (75, SIZE, SIZE, 3)
        assert file["frames"].compression is None
        assert np.array_equal(file["frames"][:], frames_of(75))
        last = file["frames"].id.read_direct_chunk((64, 0, 0, 0))[1]
        assert not any(last[11 * SIZE * SIZE * 3 :]), "the end of the last chunk is not empty"
        assert (file["landmarks"].dtype, file["frame_time_s"].dtype) == (np.float16, np.float64)


@pytest.mark.parametrize("clip", [(0, 1), (0, 32), (31, 33), (5, 75), (64, 75)])
def test_any_clip_is_read_into_a_reused_buffer(tmp_path: Path, clip: tuple[int, int]) -> None:
    """A clip at any place, across chunks and in the last, partial one, equals the frames written."""
    frames, (start, stop) = write(tmp_path / "a.h5"), clip
    out = np.full((stop - start, SIZE, SIZE, 3), 7, np.uint8)
    returned = StoredRecording(tmp_path / "a.h5").read_frames(start, stop, out)
    assert returned is out
    assert np.array_equal(out, frames[start:stop])


@pytest.mark.parametrize("clip", [(-1, 3), (70, 76), (4, 4), (9, 5)])
def test_clips_outside_the_recording_are_refused(tmp_path: Path, clip: tuple[int, int]) -> None:
    """Nothing is read, wrapped or filled up outside the recording."""
    write(tmp_path / "a.h5")
    with pytest.raises(ValueError, match="frames"):
        StoredRecording(tmp_path / "a.h5").read_frames(*clip)


def test_compressed_files_of_others_read_the_same(tmp_path: Path) -> None:
    """Frames in another layout, gzip chunks, go through HDF5 and come out equal."""
    frames = frames_of(40)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("frames", data=frames, chunks=(8, SIZE, SIZE, 3), compression="gzip")
    assert np.array_equal(StoredRecording(tmp_path / "a.h5").read_frames(3, 37), frames[3:37])


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    """The file does not depend on the time, nor on the blocks it was written in."""
    write(tmp_path / "a.h5", block=7)
    write(tmp_path / "b.h5", block=75)
    assert files.file_sha256(tmp_path / "a.h5") == files.file_sha256(tmp_path / "b.h5")


def test_a_frame_costs_its_pixels(tmp_path: Path) -> None:
    """The file is within 3 % of the pixels plus landmarks, and within the estimate."""
    write(tmp_path / "a.h5", n=960)
    n_bytes = (tmp_path / "a.h5").stat().st_size
    assert n_bytes <= 1.03 * 960 * (SIZE * SIZE * 3 + 468 * 4 + 13)
    assert n_bytes <= estimate_bytes(960, SIZE)


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    """Writing 98 MB of frames takes less than 20 MB."""
    block = np.ones((50, 64, 64, 3), np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with RecordingWriter(tmp_path / "a.h5", 64) as writer:
        for _ in range(160):
            writer.append("frames", block)
        writer.finish({}, {})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_a_replaced_file_is_read_anew(tmp_path: Path) -> None:
    """A recording made again is not read from the file that was open before."""
    write(tmp_path / "a.h5", n=75)
    stored = StoredRecording(tmp_path / "a.h5")
    assert stored.n_frames == 75
    write(tmp_path / "a.h5", n=40)
    assert stored.n_frames == 40


def _first_pixel(stored: StoredRecording) -> int:
    return int(stored.read_frames(0, 1)[0, 0, 0, 0])


def test_a_recording_travels_to_other_processes(tmp_path: Path) -> None:
    """It can be pickled while open, and a forked child opens the file itself."""
    frames = write(tmp_path / "a.h5")
    stored = StoredRecording(tmp_path / "a.h5")
    stored.read_frames(0, 1)
    assert _first_pixel(ForkingPickler.loads(ForkingPickler.dumps(stored))) == frames[0, 0, 0, 0]
    with multiprocessing.get_context("fork").Pool(1) as children:
        assert children.apply(_first_pixel, (stored,)) == frames[0, 0, 0, 0]


def test_hundreds_of_recordings_do_not_exhaust_the_open_files(tmp_path: Path) -> None:
    """Only the last used files stay open."""
    write(tmp_path / "0.h5", n=3)
    for index in range(1, 200):
        os.link(tmp_path / "0.h5", tmp_path / f"{index}.h5")
    before = len(os.listdir("/proc/self/fd"))
    assert {StoredRecording(tmp_path / f"{index}.h5").n_frames for index in range(200)} == {3}
    assert len(os.listdir("/proc/self/fd")) - before <= 140


def test_an_aborted_recording_leaves_nothing(tmp_path: Path) -> None:
    """An exception on the way removes the temporary file and keeps the old one."""
    write(tmp_path / "a.h5", n=40)
    before = files.file_sha256(tmp_path / "a.h5")
    with pytest.raises(ZeroDivisionError), RecordingWriter(tmp_path / "a.h5", SIZE) as writer:
        writer.append("frames", frames_of(40))
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["a.h5"]
    assert files.file_sha256(tmp_path / "a.h5") == before


@pytest.mark.parametrize("pulse", [39, 41])
def test_lengths_that_differ_are_never_published(tmp_path: Path, pulse: int) -> None:
    """A label of another length than the frames is refused."""
    target = tmp_path / "a.h5"
    with pytest.raises(ValueError, match="lengths differ"), RecordingWriter(target, SIZE) as writer:
        writer.append("frames", frames_of(40))
        writer.finish({"pulse": np.zeros(pulse)}, {})
    assert os.listdir(tmp_path) == []


def test_publishing_keeps_the_order_that_survives_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is synced before it is renamed, and the folder after."""
    calls = []
    fsync, rename = os.fsync, os.replace

    def note_fsync(handle: int) -> None:
        calls.append("sync " + os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def note_rename(source: Path, target: Path) -> None:
        calls.append(f"rename to {Path(target).name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_rename)
    write(tmp_path / "a.h5")
    assert re.fullmatch(r"sync \.a\.h5\.[0-9a-f]{32}\.tmp", calls[0])
    assert calls[1:] == ["rename to a.h5", f"sync {tmp_path.name}"]


FULL_DISK = """
import os, sys
import numpy as np
from pathlib import Path
from preprocessing.store import RecordingWriter
from utils.errors import Stopped
folder, expected = Path(sys.argv[1]), int(sys.argv[2])
(folder / "old.h5").write_bytes(b"old")
try:
    with RecordingWriter(folder / "a.h5", 128, expected) as writer:
        for _ in range(20):
            writer.append("frames", np.ones((32, 128, 128, 3), np.uint8))
        writer.finish({}, {})
except Stopped as stop:
    print(stop, os.listdir(folder), (folder / "old.h5").read_bytes())
    sys.exit(stop.exit_code)
"""


def run_on_small_disk(folder: Path, expected: int) -> subprocess.CompletedProcess[str]:
    """Run FULL_DISK on a disk of 6 MB; skip where this machine lets us make none."""
    mount = f'mount -t tmpfs -o size=6m none "{folder}"'
    if shutil.which("unshare") is None or subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount], capture_output=True, check=False
    ).returncode:
        pytest.skip("no small disk can be mounted here (unshare)")
    command = f'{mount} && exec "$0" -c "$1" "$2" {expected}'
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", command, sys.executable, FULL_DISK, str(folder)],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )


@pytest.mark.parametrize("expected", [0, 32_000_000])
def test_a_full_disk_is_named_and_hurts_nothing(tmp_path: Path, expected: int) -> None:
    """Found before or while writing: a message with both figures, no leftover, no abort at exit."""
    ended = run_on_small_disk(tmp_path, expected)
    assert ended.returncode == Stopped.exit_code, ended.stderr
    assert "disk full" in ended.stdout and "needs" in ended.stdout and "has" in ended.stdout
    assert "['old.h5'] b'old'" in ended.stdout
    assert ended.stderr == ""


def test_a_write_that_fails_stops_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first failed write ends in Stopped, whatever HDF5 does afterwards; nothing stays."""
    pwrite, written = os.pwrite, 0

    def small_disk(handle: int, data: memoryview, offset: int) -> int:
        nonlocal written
        written += len(data)
        if written > 50_000:
            raise OSError(28, "No space left on device")
        return pwrite(handle, data, offset)

    monkeypatch.setattr(os, "pwrite", small_disk)
    with pytest.raises(Stopped, match=r"disk full: .*a\.h5 needs 0\.\d MiB, has"):
        write(tmp_path / "a.h5", n=320)
    assert os.listdir(tmp_path) == []


def external_link(folder: Path) -> None:
    with h5py.File(folder / "secret.h5", "w") as file:
        file["frames"] = frames_of(3)
    with h5py.File(folder / "bad.h5", "w") as file:
        file["frames"] = h5py.ExternalLink(str(folder / "secret.h5"), "/frames")


def soft_link(folder: Path) -> None:
    with h5py.File(folder / "bad.h5", "w") as file:
        file["real"] = frames_of(3)
        file["frames"] = h5py.SoftLink("/real")


def external_storage(folder: Path) -> None:
    (folder / "secret.bin").write_bytes(bytes(3 * SIZE * SIZE * 3))
    with h5py.File(folder / "bad.h5", "w") as file:
        place = [(str(folder / "secret.bin"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("frames", (3, SIZE, SIZE, 3), "u1", external=place)


def virtual_dataset(folder: Path) -> None:
    layout = h5py.VirtualLayout((3, SIZE, SIZE, 3), "u1")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "frames", (3, SIZE, SIZE, 3))
    with h5py.File(folder / "bad.h5", "w") as file:
        file.create_virtual_dataset("frames", layout)


def shape_bomb(folder: Path) -> None:
    with h5py.File(folder / "bad.h5", "w") as file:
        file.create_dataset("frames", (25_000_000, SIZE, SIZE, 3), "u1", chunks=(32, SIZE, SIZE, 3))


def foreign_filter(folder: Path) -> None:
    with h5py.File(folder / "bad.h5", "w") as file:
        file.create_dataset("frames", data=frames_of(3), compression="lzf")


def test_no_link_is_written_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that lies where the temporary file goes is refused, its target untouched."""
    number = uuid.uuid4()
    monkeypatch.setattr("preprocessing.store.uuid.uuid4", lambda: number)
    (tmp_path / "precious").write_text("precious")
    (tmp_path / f".a.h5.{number.hex}.tmp").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        write(tmp_path / "a.h5")
    assert (tmp_path / "precious").read_text() == "precious"


HOSTILE = {
    external_link: "an external link", soft_link: "a soft link", external_storage: "external storage",
    virtual_dataset: "a virtual dataset", shape_bomb: "claims 19,200,000,000 bytes",
    foreign_filter: "foreign filter",
}


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_hostile_files_are_refused_by_name(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    """Each trick is refused with the file, the path and its name, with hardly any memory."""
    make(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=HOSTILE[make]) as caught:
        StoredRecording(tmp_path / "bad.h5").read_frames(0, 1)
    assert str(tmp_path / "bad.h5") in str(caught.value) and "frames" in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.parametrize("make", [external_link, external_storage, virtual_dataset])
def test_no_other_file_is_opened(tmp_path: Path, make, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """The file a hostile one points to may be a pipe without a writer: reading it would hang."""
    make(tmp_path)
    for secret in ("secret.h5", "secret.bin"):
        (tmp_path / secret).unlink(missing_ok=True)
        os.mkfifo(tmp_path / secret)
    with pytest.raises(UserError):
        StoredRecording(tmp_path / "bad.h5").read_frames(0, 1)


@pytest.mark.parametrize("link", [h5py.SoftLink("/real"), h5py.ExternalLink("other.h5", "/")])
def test_links_at_any_part_of_a_path_are_refused(tmp_path: Path, link: object) -> None:
    """A link in the middle of a path is as foreign as one at its end."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["real/frames"] = frames_of(3)
        file["quality"] = link
    with hdf5.open_untrusted(tmp_path / "a.h5") as file, pytest.raises(UserError, match="link, not followed"):
        hdf5.dataset(file, "quality/frames")


def test_files_that_are_no_hdf5_are_named(tmp_path: Path) -> None:
    """Missing, empty, foreign and truncated files each get their own sentence."""
    (tmp_path / "empty.h5").touch()
    (tmp_path / "text.h5").write_text("not HDF5 at all, but long enough to look at" * 100)
    write(tmp_path / "cut.h5")
    os.truncate(tmp_path / "cut.h5", 30_000)
    for name, words in {
        "missing": "[Nn]o such file", "empty": "empty", "text": "not an HDF5 file", "cut": "truncated",
    }.items():
        with pytest.raises(UserError, match=words):
            _ = StoredRecording(tmp_path / f"{name}.h5").n_frames


def test_text_is_not_taken_for_numbers(tmp_path: Path) -> None:
    """A dataset of variable-length text, which could unfold in memory, is refused."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["pulse"] = ["a", "b"]
    with pytest.raises(UserError, match="not a number"):
        StoredRecording(tmp_path / "a.h5").array("pulse")


NAMES = ["../a", "/etc/passwd", "a/b", "a\\b", "..", ".hidden", "a\0b", "C:a", "", "a" * 300]


@pytest.mark.parametrize("name", NAMES)
def test_ids_cannot_leave_the_store(tmp_path: Path, name: str) -> None:
    """No id in a manifest, and none that is looked up, becomes a path elsewhere."""
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"recordings": {name: {"status": "failed", "reason": "x"}}}))
    with pytest.raises(UserError, match="cannot be a file name"):
        Manifest(path)
    with pytest.raises(UserError, match="cannot be a file name"):
        Manifest(tmp_path / "none.json").file(name)


@pytest.mark.parametrize("text", [
    "[]", "{}", '{"recordings": []}', '{"recordings": {"a": 3}}', '{"recordings": {"a": {"status": "good"}}}',
    '{"recordings": {"a": {"status": "done"}}}', '{"recordings": {"a": {"status": "failed"}}}', "{", "\0",
])
def test_damaged_manifests_are_refused_by_name(tmp_path: Path, text: str) -> None:
    """A manifest of another shape is an error with its name, never a guess."""
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json"):
        Manifest(path)
