"""Files from anyone: whatever a dataset's file holds, the reader ends with a result or one clear error.

Never a traceback, a hang, a file read outside the dataset, or memory that a small file asks for.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from preprocessing import sources
from preprocessing.sources import RawRecording
from preprocessing.synthetic import layouts
from tests import made_sets
from utils.errors import UserError

NAMES = sources.names()
TEXTS = (".csv", ".txt", ".xmp", ".json", ".xml")
NUMBER = re.compile(rb"-?\d+(\.\d+)?(e[+-]?\d+)?")
WORDS = (b"nan", b"inf", b"1e999", b"9" * 5000, b"-5", b"", b"0")
MOST_BYTES = 120e6
SHARED = ("recordings.json",)
"""Files of a whole set, without which nobody knows who is in it."""
SECRET = "the content of another file"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """A set of a few people by name, written once."""
    known: dict[tuple[str, int], Path] = {}

    def get(name: str, people: int) -> Path:
        key = (name, people)
        if key not in known:
            known[key] = tmp_path_factory.mktemp(name) / "raw"
            layouts.build(name).write(known[key], people, 2.0)
        return known[key]

    return get


@pytest.fixture
def copied(pristine: Callable[[str, int], Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of a set that a test may damage."""

    def get(name: str, people: int = 1) -> Path:
        return Path(shutil.copytree(pristine(name, people), tmp_path / name))

    return get


def one_of_each_kind(recording: RawRecording) -> list[Path]:
    """The inputs of a recording, of pictures and the like the first only."""
    kinds: dict[tuple[str, str], Path] = {}
    for path in recording.files():
        kinds.setdefault((path.suffix, re.sub(r"\d+", "", path.stem)), path)
    return list(kinds.values())


def attempt(name: str, root: Path, recording: str) -> str:
    """Read a recording of a set to its end; "" or the message of its UserError."""
    try:
        found = {item.recording: item for item in sources.build(name, root)}
        made_sets.extracted(found[recording])
    except UserError as error:
        return str(error)
    return ""


def frugal_attempt(name: str, root: Path, recording: str) -> str:
    """The same, with an eye on the memory it takes."""
    tracemalloc.start()
    try:
        return attempt(name, root, recording)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MOST_BYTES, f"{peak / 1e6:.0f} MB"


def damages(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Cut, foreign and altered contents of a file."""
    rng = np.random.default_rng(0)
    yield "empty", b""
    yield "half", data[: len(data) // 2]
    yield "noise", rng.bytes(min(len(data), 1 << 16))
    for name, reach in (("altered", len(data)), ("altered header", min(len(data), 400))):
        changed = bytearray(data)
        for place in rng.integers(0, reach, 12):
            changed[place] ^= 0xFF
        yield name, bytes(changed)
    yield "zeros", bytes(min(len(data), 1 << 20))
    yield "a tenth", data[: max(1, len(data) // 10)]


def renumbered(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Texts in which all numbers, or some, are others."""
    for word in WORDS:
        yield f"all numbers {word[:6]!r}", NUMBER.sub(word, data)
        pieces = NUMBER.split(data)[::3]
        there = [match[0] for match in NUMBER.finditer(data)]
        mixed = [word if index % 40 == 7 else number for index, number in enumerate(there)]
        yield f"some numbers {word[:6]!r}", b"".join(
            piece + number for piece, number in zip(pieces, [*mixed, b""], strict=True)
        )


def check_damage(name: str, root: Path, kinds: Callable[[bytes, str], Iterator[tuple[str, bytes]]]) -> None:
    """Each damaged file of the first recording ends well, and the set keeps its other recordings."""
    first = sources.build(name, root).recordings()[0]
    listed = [item.recording for item in sources.build(name, root)]
    for path in one_of_each_kind(first):
        data = path.read_bytes()
        for what, content in kinds(data, path.suffix):
            path.write_bytes(content)
            where = f"{path.name}, {what}"
            try:
                assert [item.recording for item in sources.build(name, root)] == listed, where
            except UserError:
                assert path.name in SHARED, where
            message = attempt(name, root, first.recording)
            assert "Traceback" not in message and len(message) < 1000, where
        path.write_bytes(data)
    assert attempt(name, root, first.recording) == ""


@pytest.mark.parametrize("name", NAMES)
def test_a_cut_or_foreign_file_costs_one_recording(name: str, copied: Callable[..., Path]) -> None:
    """An empty, cut or foreign file is a named error or is done without; all recordings stay listed."""
    check_damage(name, copied(name, 2), lambda data, _: list(damages(data))[:3])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_altered_files_end_in_a_result_or_an_error(name: str, copied: Callable[..., Path]) -> None:
    """Flipped bytes, zeros, and numbers that are none, too large, negative or missing."""

    def kinds(data: bytes, suffix: str) -> Iterator[tuple[str, bytes]]:
        yield from damages(data)
        if suffix in TEXTS:
            yield from renumbered(data)

    check_damage(name, copied(name, 2), kinds)


def external_link(handle: h5py.File, name: str, secret: Path) -> None:
    handle[name] = h5py.ExternalLink(str(secret), "/x")


def soft_link(handle: h5py.File, name: str, secret: Path) -> None:
    handle["other"] = np.zeros(600)
    handle[name] = h5py.SoftLink("/other")


def external_storage(handle: h5py.File, name: str, secret: Path) -> None:
    handle.create_dataset(name, (2,), "f8", external=[(str(secret), 0, 16)])


def virtual(handle: h5py.File, name: str, secret: Path) -> None:
    layout = h5py.VirtualLayout((600,), "f8")
    layout[:] = h5py.VirtualSource(str(secret), "x", (600,))
    handle.create_virtual_dataset(name, layout)


def vast_shape(handle: h5py.File, name: str, secret: Path) -> None:
    handle.create_dataset(name, (1 << 40,), "f8", chunks=(1 << 20,), compression="gzip")


def vast_chunk(handle: h5py.File, name: str, secret: Path) -> None:
    kept = handle.create_dataset(name, (100,), "f8", chunks=(1 << 26,), maxshape=(None,), compression="gzip")
    kept.id.write_direct_chunk((0,), zlib.compress(bytes(1 << 20)))


def text(handle: h5py.File, name: str, secret: Path) -> None:
    handle[name] = ["one", "two"]


def group(handle: h5py.File, name: str, secret: Path) -> None:
    handle.create_group(name)


@pytest.mark.parametrize("plant, reason", [
    (external_link, "an external link"), (soft_link, "a soft link"), (external_storage, "external storage"),
    (virtual, "a virtual dataset"), (vast_shape, "claims 8,796,093,022,208 bytes"), (group, "not a dataset"),
    (vast_chunk, "lies in pieces of 536,870,912 bytes"), (text, "is not a number"),
])
@pytest.mark.parametrize("name, suffix, variable", [
    ("cohface", ".hdf5", "pulse"), ("scamps", ".mat", "d_ppg"), ("scamps", ".mat", "RawFrames"),
])
def test_hdf5_leads_nowhere_and_claims_nothing(
    name: str, suffix: str, variable: str, plant: Callable[[h5py.File, str, Path], None], reason: str,
    copied: Callable[..., Path],
) -> None:
    """Links, storage elsewhere, vast shapes and chunks, and foreign types are refused by name."""
    root = copied(name)
    secret = root.parent / "secret.h5"
    with h5py.File(secret, "w") as handle:
        handle["x"] = np.arange(600.0)
    first = sources.build(name, root).recordings()[0]
    path = next(path for path in first.files() if path.suffix == suffix)
    with h5py.File(path, "r+") as handle:
        del handle[variable]
        plant(handle, variable, secret)
    message = frugal_attempt(name, root, first.recording)
    assert path.name in message and variable in message and reason in message


BILLION = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
XML = {
    "entities that grow": f'<!DOCTYPE r [<!ENTITY a0 "lol">{BILLION}]><r>&a9;</r>',
    "an entity that is a file": '<!DOCTYPE r [<!ENTITY a SYSTEM "file://{secret}">]><r>&a;</r>',
    "a document type elsewhere": '<!DOCTYPE r SYSTEM "file://{secret}"><r/>',
    "an unknown encoding": '<?xml version="1.0" encoding="klingon"?><r/>',
    "deep nesting": "<a>" * 50_000,
    "a vast file": "<r>" + "<a/>" * 4_000_000 + "</r>",
    "nothing": "",
}


@pytest.mark.parametrize("what", XML)
@pytest.mark.parametrize("name, file", [
    ("lgi_ppgi", "cms50_stream_handler.xml"), ("lgi_ppgi", "cv_camera_sensor_timer_stream_handler.xml"),
    ("mahnob_hci", "session.xml"),
])
def test_xml_is_data_only(name: str, file: str, what: str, copied: Callable[..., Path]) -> None:
    """Document types, unknown encodings, vast and bottomless XML are refused; no other file is read."""
    root = copied(name)
    secret = root.parent / "secret.txt"
    secret.write_text(SECRET)
    first = sources.build(name, root).recordings()[0]
    path = next(path for path in first.files() if path.name == file)
    path.write_text(XML[what].replace("{secret}", str(secret)))
    listed = [item.recording for item in sources.build(name, root)]
    assert first.recording in listed
    message = frugal_attempt(name, root, first.recording)
    assert file in message and SECRET not in message


JSON = {
    "a key twice": '{"/Image": [], "/Image": []}', "no number": '{"/Image": [NaN]}',
    "deep nesting": "[" * 200_000, "a vast number": '{"/Image": [' + "9" * 5000 + "]}",
    "a vast file": "[" + "[]," * 5_000_000 + "1]", "a list": "[]", "a number": "1", "null": "null",
    "lists of the wrong things": '{"/FullPackage": [1, "a"], "/Image": {"a": 1}}',
    "a number no float holds": '{"/FullPackage": [{"Timestamp": 1, "Value": {"waveform": 1' + "0" * 400
    + ', "pulseRate": 1}}], "/Image": []}',
}


@pytest.mark.parametrize("what", JSON)
def test_json_is_read_strictly(what: str, copied: Callable[..., Path]) -> None:
    """Hostile and wrong JSON is refused by name, at a bounded cost."""
    root = copied("pure")
    first = sources.build("pure", root).recordings()[0]
    path = next(path for path in first.files() if path.suffix == ".json")
    path.write_text(JSON[what])
    assert path.name in frugal_attempt("pure", root, first.recording)


@pytest.mark.parametrize("what", JSON)
def test_json_of_own_recordings_is_read_strictly(what: str, copied: Callable[..., Path]) -> None:
    """The same for the labels and for the list of recordings in a folder of one's own."""
    root = copied("folder")
    videos = [path for path in root.iterdir() if path.suffix in (".avi", ".mp4")]
    for path in [*root.glob(f"{videos[0].stem}.csv"), *root.glob(f"{videos[0].stem}.json")]:
        path.unlink()
    label = root / f"{videos[0].stem}.json"
    label.write_text(JSON[what])
    assert label.name in frugal_attempt("folder", root, videos[0].stem)
    (root / "recordings.json").write_text(JSON[what])
    with pytest.raises(UserError, match=r"recordings\.json"):
        sources.build("folder", root)


@pytest.mark.parametrize("key, value", [
    ("../other", {"subject": "a"}), ("/etc/passwd", {}), ("p1", {"conditions": {"light": ["dim"]}}),
    ("p1", {"path": "/etc/passwd"}), ("p1", {"fps": 1e300}), ("p1", {"subject": 7}),
])
def test_the_list_of_own_recordings_names_no_other_files(
    key: str, value: dict[str, Any], tmp_path: Path, copied: Callable[..., Path]
) -> None:
    """recordings.json tells of the files that are there and of nothing else."""
    root = copied("folder")
    (root / "recordings.json").write_text(json.dumps({key: value}))
    with pytest.raises(UserError, match=r"recordings\.json"):
        sources.build("folder", root)


def add(name: str) -> Callable[[Path, str], None]:
    """Add a member to a zip file."""

    def plant(path: Path, task: str) -> None:
        with zipfile.ZipFile(path, "a") as handle:
            handle.writestr(name.replace("TASK", task), b"x")

    return plant


def vast_index(path: Path, task: str) -> None:
    """An index that states a gigabyte."""
    data = path.read_bytes()
    end = data.rfind(b"PK\x05\x06")
    path.write_bytes(data[: end + 12] + struct.pack("<I", 1 << 30) + data[end + 16 :])


def encrypted(path: Path, task: str) -> None:
    """Every member says that it is encrypted."""
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for match in re.finditer(re.escape(mark), bytes(data)):
            data[match.start() + place] |= 1
    path.write_bytes(data)


@pytest.mark.parametrize("plant", [
    add("../../TASK/99999.jpg"), add("/TASK/99999.jpg"), add("TASK/..\\99999.jpg"), add("TASK/C:99999.jpg"),
    add("elsewhere/TASK/99999.jpg"), vast_index, encrypted,
], ids=["up", "absolute", "backslash", "drive", "two folders", "vast index", "encrypted"])
def test_zip_files_are_not_believed(plant: Callable[[Path, str], None], copied: Callable[..., Path]) -> None:
    """Names that lead out, vast indexes and encrypted members are refused; nothing is unpacked."""
    root = copied("bp4d")
    path = sorted(root.rglob("*.zip"))[0]
    first = next(item for item in sources.build("bp4d", root) if item.subject == path.stem)
    before = sorted(root.parent.rglob("*"))
    plant(path, first.conditions["task"])
    assert path.name in frugal_attempt("bp4d", root, first.recording)
    assert sorted(root.parent.rglob("*")) == before


@pytest.mark.parametrize("place, value, message", [
    (236, b"99999999", "states 99999999 records"), (236, b"-7", "records"), (252, b"9999", "channels"),
    (252, b"-1", "channels"), (184, b"99999999", "another length"), (244, b"nan", "not a number"),
    (244, b"0", "records of 0 s"), (236, b"1e9", "not a number"),
])
def test_bdf_headers_are_not_believed(
    place: int, value: bytes, message: str, copied: Callable[..., Path]
) -> None:
    """Absurd counts, rates and lengths of a BDF file are refused before anything of that size is made."""
    root = copied("mahnob_hci")
    first = sources.build("mahnob_hci", root).recordings()[0]
    path = next(path for path in first.files() if path.suffix == ".bdf")
    with open(path, "r+b") as handle:
        handle.seek(place)
        handle.write(value.ljust(4 if place == 252 else 8))
    said = frugal_attempt("mahnob_hci", root, first.recording)
    assert path.name in said and message in said


def picture_that_claims(suffix: str, side: int) -> bytes:
    """A picture file of a few bytes whose header states `side` x `side` pixels."""
    if suffix == ".bmp":
        head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
        return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + head + bytes(46)
    if suffix == ".pgm":
        return b"P5 %d %d 255\n" % (side, side) + bytes(100)
    parts = [b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(bytes(99))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts
    )


@pytest.mark.parametrize("side", [60_000, 8000])
@pytest.mark.parametrize("name, suffix", [("pure", ".png"), ("ibvp", ".bmp"), ("mr_nirp", ".pgm")])
def test_pictures_are_not_allocated_on_their_word(
    name: str, suffix: str, side: int, copied: Callable[..., Path]
) -> None:
    """A picture that claims more pixels than any camera of the field has is refused by its header."""
    root = copied(name)
    first = sources.build(name, root).recordings()[0]
    path = next(path for path in first.files() if path.suffix == suffix)
    path.write_bytes(picture_that_claims(suffix, side))
    message = frugal_attempt(name, root, first.recording)
    assert path.name in message and ("claims 8000x8000" in message or side != 8000)


@pytest.mark.parametrize("name, file", [
    ("ubfc_phys", "bvp"), ("vipl_hr", "time.txt"), ("ubfc_rppg_2", "ground_truth"), ("ibvp", "_bvp.csv"),
])
@pytest.mark.parametrize("content", [b"1\n" * 6_000_000, b"1," * 6_000_000, b"7" * 25_000_000])
def test_vast_tables_are_refused(
    name: str, file: str, content: bytes, copied: Callable[..., Path]
) -> None:
    """Millions of words, or one of millions of digits, are refused before the text is taken apart."""
    root = copied(name)
    first = sources.build(name, root).recordings()[0]
    path = next(path for path in first.files() if file in path.name)
    path.write_bytes(content)
    assert path.name in frugal_attempt(name, root, first.recording)


@pytest.mark.parametrize("name, file, variable", [
    ("mmpd", ".mat", b"GT_ppg"), ("mr_nirp", "pulseOx.mat", b"pulseOxTime"),
])
def test_matlab_labels_are_not_inflated(
    name: str, file: str, variable: bytes, copied: Callable[..., Path]
) -> None:
    """A label of a few kilobytes that unpacks to gigabytes is refused by its header."""
    root = copied(name)
    first = sources.build(name, root).recordings()[0]
    path = next(path for path in first.files() if path.name.endswith(file))
    body = struct.pack("<4I", 6, 8, 6, 0) + struct.pack("<2I2i", 5, 8, 1, 1 << 28)
    body += struct.pack("<2I", 1, len(variable)) + variable + bytes(-len(variable) % 8)
    body += struct.pack("<2I", 9, 1 << 31)
    packed = zlib.compress(struct.pack("<2I", 14, len(body) + (1 << 31)) + body + bytes(4 << 20), 9)
    path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + struct.pack("<2I", 15, len(packed)) + packed)
    assert path.name in frugal_attempt(name, root, first.recording)


@pytest.mark.parametrize("subject", ["../../etc", "a/b", "", "x" * 5, "&lt;script&gt;"])
def test_people_are_no_paths(subject: str, copied: Callable[..., Path]) -> None:
    """A subject that a file names may stand in a split and a report, never for a path."""
    root = copied("mahnob_hci")
    first = sources.build("mahnob_hci", root).recordings()[0]
    path = first.files()[0]
    path.write_text(re.sub(r'(<subject[^>]* id=")[^"]*', rf"\g<1>{subject}", path.read_text()))
    found = next(item for item in sources.build("mahnob_hci", root) if item.recording == first.recording)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", found.subject)
