"""Checkpoints: whole or absent, every damaged bit found, nothing that runs code."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from training import checkpoint
from training.checkpoint import BadCheckpoint, Checkpoints, read_checkpoint, weights_of
from utils.errors import Stopped
from utils.seeding import rng_state, set_rng_state


def make(folder: Path, **identity: Any) -> Checkpoints:
    """The checkpoints of a run whose params hash to "p"."""
    about = {"params": {"train": {"batch": 4}}}
    return Checkpoints(folder, {"params": "p", "net": "tiny", **identity}, about)


def state(number: int) -> dict[str, Any]:
    """A state that can be told from others."""
    return {"method": {"weight": torch.full((50,), float(number))}, "position": {"epoch": number}}


def number_of(content: dict[str, Any] | None) -> int:
    """Which `state` it is."""
    assert content is not None
    return content["position"]["epoch"]


def test_values_come_back_as_they_were(tmp_path: Path) -> None:
    """NaN, infinities, tuples, None, strided tensors and the state of every generator survive."""
    strided = torch.randn(2, 3, 4, 4, 4).contiguous(memory_format=torch.channels_last_3d)
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    kept = {"rank": (1, -math.inf), "nan": math.nan, "none": None, "weights": strided, "rng": rng_state()}
    make(tmp_path).save(kept)
    drawn = (random.random(), float(np.random.rand()), float(torch.rand(())))
    back = make(tmp_path).load_latest()
    assert back is not None
    assert back["rank"] == (1, -math.inf) and math.isnan(back["nan"]) and back["none"] is None
    assert back["weights"].stride() == strided.stride() and torch.equal(back["weights"], strided)
    set_rng_state(back["rng"])
    assert (random.random(), float(np.random.rand()), float(torch.rand(()))) == drawn


def test_a_checkpoint_describes_itself(tmp_path: Path) -> None:
    """Identity, params and versions are in the file."""
    make(tmp_path).save(state(1))
    content = read_checkpoint(tmp_path)
    assert content["identity"] == {"params": "p", "net": "tiny"}
    assert content["about"]["params"]["train"]["batch"] == 4
    assert content["versions"]["torch"] == str(torch.__version__)


def test_torch_reads_the_sealed_file(tmp_path: Path) -> None:
    """The digest at the end disturbs no other reader."""
    make(tmp_path).save(state(3))
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    assert number_of(content) == 3


def test_the_last_two_and_the_best_are_kept(tmp_path: Path) -> None:
    """After four saves, the second of which was best."""
    kept = make(tmp_path)
    for number in range(4):
        kept.save(state(number), best=number == 1)
    found = {p.name: number_of(read_checkpoint(p)) for p in tmp_path.iterdir()}
    assert found == {"last.pt": 3, "previous.pt": 2, "best.pt": 1}
    assert number_of(kept.load_best()) == 1


def test_nothing_there_is_no_error(tmp_path: Path) -> None:
    """A new run starts from nothing."""
    assert make(tmp_path / "new").load_latest() is None
    assert not make(tmp_path / "new").exist()


def test_every_flipped_bit_is_found(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One bit, anywhere in the file, padding and digest included: refused, the previous one used."""
    make(tmp_path / "good").save(state(1))
    make(tmp_path / "good").save(state(2))
    content = (tmp_path / "good" / "last.pt").read_bytes()
    rng = random.Random(0)
    places = [rng.randrange(len(content)) for _ in range(20)] + list(range(len(content) - 64, len(content)))
    for place in places:
        folder = tmp_path / f"bad{place}"
        shutil.copytree(tmp_path / "good", folder, dirs_exist_ok=True)
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.randrange(8)
        (folder / "last.pt").write_bytes(flipped)
        assert number_of(make(folder).load_latest()) == 1, f"byte {place} of {len(content)}"
        assert f"{folder / 'last.pt'}: damaged" in capsys.readouterr().err


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused(share: float, tmp_path: Path) -> None:
    """Cut anywhere, it is named; with no other one left that is the error."""
    make(tmp_path).save(state(1))
    whole = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(BadCheckpoint, match=r"no good checkpoint is left: .*last\.pt: damaged"):
        make(tmp_path).load_latest()


def test_a_damaged_file_never_replaces_the_good_one(tmp_path: Path) -> None:
    """After falling back, the next save keeps the good one as the previous."""
    kept = make(tmp_path)
    kept.save(state(1))
    kept.save(state(2))
    (tmp_path / "last.pt").write_bytes(b"nonsense")
    assert number_of(kept.load_latest()) == 1
    kept.save(state(3))
    assert number_of(read_checkpoint(tmp_path / "previous.pt")) == 1
    assert number_of(kept.load_latest()) == 3


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_a_malicious_file_runs_nothing(tmp_path: Path) -> None:
    """A file that calls a function on loading is refused by name, and nothing is called."""
    torch.save({"identity": {}, "x": Malicious(tmp_path / "owned")}, tmp_path / "last.pt")
    with pytest.raises(BadCheckpoint, match=r"last\.pt: refused, .*mkdir"):
        make(tmp_path).load_latest()
    with pytest.raises(BadCheckpoint):
        read_checkpoint(tmp_path / "last.pt")
    assert not (tmp_path / "owned").exists()


def test_another_runs_checkpoint_is_refused(tmp_path: Path) -> None:
    """The message names what differs, with both values."""
    make(tmp_path).save(state(1))
    with pytest.raises(BadCheckpoint, match=r"made with net = 'tiny', this run has 'large'"):
        make(tmp_path, net="large").load_latest()
    with pytest.raises(BadCheckpoint, match=r"made with params = 'p', this run has 'q'"):
        make(tmp_path, params="q").load_latest()


def test_a_foreign_file_is_not_continued(tmp_path: Path) -> None:
    """A bare state dict in the place of a checkpoint is named."""
    torch.save({"weight": torch.ones(2)}, tmp_path / "last.pt")
    with pytest.raises(BadCheckpoint, match="not a checkpoint of this program"):
        make(tmp_path).load_latest()


Usage = namedtuple("Usage", "total used free")


def test_too_little_space_is_seen_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is needed and what is left stand in the message; the old ones stay."""
    make(tmp_path).save(state(1))
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: Usage(10, 9, 1))
        with pytest.raises(Stopped, match=r"disk full: .*last\.pt needs \d.*has 0\.0 MiB"):
            make(tmp_path).save(state(2))
    assert number_of(make(tmp_path).load_latest()) == 1


def test_a_disk_that_fills_up_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the space; nothing half is left, the old ones are whole."""
    kept = make(tmp_path)
    kept.save(state(1))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(Stopped, match=r"disk full: .* needs "):
            kept.save(state(2), best=True)
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]
    assert number_of(kept.load_latest()) == 1


class Killed(BaseException):
    """Stands for kill -9 at one system call."""


@pytest.mark.parametrize("links", [True, False])
def test_killed_at_any_call_of_a_save_a_good_one_remains(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before each call that changes the folder: the old or the new state loads, also the best."""
    met, link = set(), os.link
    for deadline in range(20):
        folder = tmp_path / f"at{deadline}"
        for number in (1, 2):
            make(folder).save(state(number), best=True)
        calls = iter(range(100))

        def counted(real: Any, deadline: int = deadline, calls: Any = calls) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                if next(calls) >= deadline:
                    raise Killed
                if real is link and not links:
                    raise OSError(errno.EPERM, "no links here")
                return real(*args, **kwargs)
            return call

        with monkeypatch.context() as patched:
            for name in ("link", "replace", "fsync"):
                patched.setattr(os, name, counted(getattr(os, name)))
            try:
                make(folder).save(state(3), best=True)
                finished = True
            except Killed:
                finished = False
        found = number_of(make(folder).load_latest())
        met.add(found)
        assert found in (2, 3)
        best = number_of(make(folder).load_best())
        assert best == 3 if found == 3 else best in (2, 3), "the best is never behind the last"
        if finished:
            assert found == 3
            break
    assert met == {2, 3}


def test_the_content_is_on_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File synced, then renamed, then the folder synced."""
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def noted(*args: Any, name: str = name, real: Any = real) -> Any:
            calls.append(name)
            return real(*args)

        monkeypatch.setattr(os, name, noted)
    make(tmp_path).save(state(1))
    at = calls.index("replace")
    assert "fsync" in calls[:at] and "fsync" in calls[at:]


def test_leftovers_of_killed_writers_go_away(tmp_path: Path) -> None:
    """A temporary file of an earlier process is removed at the start."""
    (tmp_path / ".last.pt.123.tmp").write_bytes(b"half")
    make(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_weights_come_from_folder_file_or_bare_state_dict(tmp_path: Path) -> None:
    """A run folder gives its best one; a bare state dict is taken as it stands."""
    kept = make(tmp_path / "run" / "checkpoints")
    kept.save(state(1), best=True)
    kept.save(state(2))
    for path, expected in [(tmp_path / "run", 1), (tmp_path / "run" / "checkpoints" / "last.pt", 2)]:
        weights = weights_of(read_checkpoint(path), str(path))
        assert float(weights["weight"][0]) == expected
    torch.save({"a": torch.ones(2)}, tmp_path / "bare.pt")
    assert list(weights_of(read_checkpoint(tmp_path / "bare.pt"), "bare.pt")) == ["a"]


def test_wrong_files_are_named(tmp_path: Path) -> None:
    """Missing, empty folder, text, a list, no weights: each a message with the path."""
    (tmp_path / "text.pt").write_text(json.dumps({"a": 1}))
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    torch.save({"a": 1}, tmp_path / "none.pt")
    for name, text in [("missing.pt", "No such file"), ("", "no best.pt or last.pt"),
                       ("text.pt", "not written by torch.save"), ("list.pt", "holds a list")]:
        with pytest.raises(BadCheckpoint, match=text):
            read_checkpoint(tmp_path / name)
    with pytest.raises(BadCheckpoint, match="no weights by name"):
        weights_of(read_checkpoint(tmp_path / "none.pt"), "none.pt")


def test_the_released_weights_can_be_read() -> None:
    """A weights file of others, without a digest, passes the checks."""
    root = os.environ.get("RPPG_REAL_DATA")
    path = Path(root or "") / "model" / "contrast_phys_ubfc_physnet.pt"
    if not root or not path.exists():
        pytest.skip("RPPG_REAL_DATA names no folder with model/contrast_phys_ubfc_physnet.pt")
    assert len(weights_of(read_checkpoint(path), str(path))) > 10


def test_the_digest_is_the_comment_of_the_archive(tmp_path: Path) -> None:
    """What torch wrote is unchanged before it."""
    make(tmp_path).save(state(1))
    content = (tmp_path / "last.pt").read_bytes()
    assert content[-checkpoint._SEAL_BYTES:].startswith(b"sha256:")
