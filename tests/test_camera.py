"""Watching a camera: pictures as they come, the window, the estimates, the files and the page."""

from __future__ import annotations

import csv
import http.client
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import nets
from commands.camera import Session
from commands.live.board import Board
from commands.live.estimates import Estimate
from commands.live.journal import Journal
from commands.live.server import serving
from commands.predict import Predictor, predict_video
from dataset.window import HeldRecording
from nets import methods
from preprocessing import camera as camera_module
from preprocessing.camera import Camera, Device, Feed, Film, Shot, open_camera
from preprocessing.crops import NewestRows
from preprocessing.live import LiveFrame, LiveWindow
from preprocessing.synthetic.avi import write_avi
from preprocessing.synthetic.generate import generate
from tests.browser import in_chromium
from utils.errors import UserError
from utils.settings import Preprocessing

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 9.0
TIME = "--virtual-time-budget=1500"  # ms for which the page's scripts run


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic face with a pulse, 9 s."""
    folder = tmp_path_factory.mktemp("film")
    made = generate(folder, seed=3, train=1, valid=0, test=0, hard=0, control=0, seconds=SECONDS, workers=1,
                    progress=False)
    return folder / made["train"][0] / "vid.avi"


def pos() -> Predictor:
    return Predictor("pos", methods.build("classical", nets.build("pos")), Preprocessing())


def watched(camera: Camera, out: Path, predictor: Predictor | None = None, window_s: float = 15.0) -> Session:
    """A session that ran to its end, looked at by a page at its start."""
    session = Session(predictor or pos(), camera, Journal(out), window_s, math.inf)
    session.board.text()
    session.run()
    return session


@pytest.fixture(scope="module")
def whole(film: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, Path]:
    """The film as fast as can be, with POS, and the folder it was written to."""
    out = tmp_path_factory.mktemp("whole") / "session"
    return watched(Film(film, keeps_pace=False), out), out


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "camera.jsonl").read_text().splitlines()]


def test_the_last_estimate_is_that_of_predict(film: Path, tmp_path: Path) -> None:
    """A window that holds the whole film gives predict's waveform, rate and quality, for a net as well."""
    net = nets.build("physnet")
    net.input_spec = net.input_spec.replace(frames=64, size=16)
    predictor = Predictor("physnet", methods.build("supervised", net).eval(), Preprocessing())
    session = watched(Film(film, keeps_pace=False), tmp_path / "live", predictor)
    predict_video(predictor, film, tmp_path / "file")
    summary = json.loads((tmp_path / "file" / "summary.json").read_text())
    with open(tmp_path / "file" / "waveform.csv") as handle:
        rows = [[float(row["time_s"]), float(row["pulse"])] for row in csv.DictReader(handle)]
    shown = json.loads(session.board.text())["estimate"]
    assert shown["n_frames"] == summary["n_frames"]
    np.testing.assert_allclose(shown["pulse"], [pulse for _, pulse in rows], atol=1e-4)
    np.testing.assert_allclose(shown["pulse_time_s"], [t - rows[0][0] for t, _ in rows], atol=1e-4)
    for key in ("heart_rate_bpm", "quality", "snr_db"):
        assert shown[key] == pytest.approx(summary[key], rel=1e-9), key


def test_lines_hold_every_sample_once(whole: tuple[Session, Path]) -> None:
    """An estimate a second from 6 s on; the waveform's new samples in each line, none twice, none lost."""
    made = lines(whole[1])
    ends = [line["time_s"] for line in made]
    assert len(made) == 4 and ends[0] >= 6 and all(0.9 < step < 1.2 for step in np.diff(ends[:-1]))
    times = [t for line in made for t in line["pulse_time_s"]]
    assert len(times) == whole[0]._feed.n_taken and (np.diff(times) > 0).all()
    assert all(len(line["pulse"]) == len(line["pulse_time_s"]) for line in made)
    assert all(line["face_found"] and len(line["box"]) == 4 for line in made)


def test_summary_has_the_keys_of_predict(whole: tuple[Session, Path], film: Path) -> None:
    """summary.json: predict's keys, medians over the estimates, and what a camera adds."""
    summary = json.loads((whole[1] / "summary.json").read_text())
    assert set(summary) >= {"video", "heart_rate_bpm", "quality", "snr_db", "method", "fps", "n_frames",
                            "n_frames_with_face", "duration_s", "warnings"}
    rates = [line["heart_rate_bpm"] for line in lines(whole[1]) if line["quality"] >= 0.3]
    assert summary["heart_rate_bpm"] == pytest.approx(float(np.median(rates)))
    truth = np.loadtxt(film.parent / "ground_truth.txt")[1].mean()
    assert abs(summary["heart_rate_bpm"] - truth) < 3
    assert summary["n_dropped"] == 0 and summary["time_stamps"] == "file"
    assert summary["n_estimates"] == 4 and summary["n_frames_with_face"] == summary["n_frames"]


def test_unreliable_estimates_give_no_rate(tmp_path: Path) -> None:
    """Estimates under 0.3 leave the summary without a heart rate, and with the reason."""
    journal = Journal(tmp_path / "s")
    journal.write(Estimate(6.0, 80.0, 0.25, -3.0, 30.0, 6.0, 180, 180, [0.0, 6.0], [0.1, None], []))
    summary = journal.finish({"video": "x"}, [])
    assert summary["heart_rate_bpm"] is None and "0.3" in summary["warnings"][0]


def test_a_session_is_not_written_over(film: Path, whole: tuple[Session, Path]) -> None:
    """A camera's session cannot be made again: its folder is refused."""
    with pytest.raises(UserError, match=r"camera\.jsonl.*another --out"):
        Journal(whole[1])


class Losing(Film):
    """A film of which a fifth of the frames never arrives."""

    def _pictures(self) -> Iterator[Shot]:
        rng = np.random.default_rng(0)
        for shot in super()._pictures():
            if rng.random() > 0.2:
                yield shot


def test_lost_frames_leave_the_rate(film: Path, whole: tuple[Session, Path], tmp_path: Path) -> None:
    """With frames missing at random the times decide: the rate stays within 1 bpm, the rest is resampled."""
    session = watched(Losing(film, keeps_pace=False), tmp_path / "s")
    shown = json.loads(session.board.text())["estimate"]
    full = json.loads(whole[0].board.text())["estimate"]
    assert shown["n_frames"] < 0.9 * full["n_frames"]
    assert shown["heart_rate_bpm"] == pytest.approx(full["heart_rate_bpm"], abs=1)
    even = np.interp(full["pulse_time_s"], shown["pulse_time_s"], shown["pulse"])
    assert np.corrcoef(even, full["pulse"])[0, 1] > 0.95


def test_no_face_ends_with_3_and_a_summary(tmp_path: Path) -> None:
    """Pictures without a face: the summary says so, the exit code is that of a failed recording."""
    import main

    write_avi(tmp_path / "wall.avi", [np.full((96, 128, 3), 90, np.uint8)] * 40, fps=20.0,
              codec="mjpeg", quality=90)
    words = ["predict", "--camera", str(tmp_path / "wall.avi"), "--out", str(tmp_path / "s")]
    assert main.main([*words, "--fast", "--no-page"]) == 3
    summary = json.loads((tmp_path / "s" / "summary.json").read_text())
    assert summary["heart_rate_bpm"] is None and summary["n_frames"] == 40
    assert any("no window" in text for text in summary["warnings"])


@pytest.mark.parametrize(("words", "message"), [
    ([], "--camera 0"), (["a.avi", "--camera", "0"], "either"), (["a.avi", "--fast"], "only with --camera"),
    (["a.avi", "--port", "0"], "only with --camera"), (["--camera", "a.avi", "--window", "2"], "--window"),
    (["--camera", "a.avi", "--seconds", "0"], "--seconds"), (["--camera", "absent.avi"], "no such video"),
    (["--camera", "0", "--fast"], "own pace"), (["--camera", "99"], "camera 99"),
])
def test_wrong_words_are_refused(words: list[str], message: str, tmp_path: Path,
                                 capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not go together is exit code 2 and a sentence, and nothing is written."""
    import main

    monkeypatch.chdir(tmp_path)
    assert main.main(["predict", *words]) == 2
    assert message in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


class Quick(Camera):
    """Numbered pictures without any pause, with the given times."""

    stamps = "file"

    def __init__(self, times: list[float]) -> None:
        super().__init__("quick")
        self.times = times

    def _pictures(self) -> Iterator[Shot]:
        for time_s in self.times:
            yield np.zeros((4, 4, 3), np.uint8), time_s


def test_frames_nobody_has_time_for_are_dropped_and_counted() -> None:
    """Taken and dropped together are all there were; times still increase."""
    feed, times = Feed(Quick([k / 30 for k in range(200)]), lambda: False), []
    for _, time_s in feed:
        times.append(time_s)
        time.sleep(0.002)
    assert feed.n_taken == len(times) and feed.n_taken + feed.n_dropped == 200
    assert feed.n_dropped > 0 and (np.diff(times) > 0).all()


def test_nothing_is_dropped_without_a_pace() -> None:
    """Read directly, every frame is taken, however slow the work is."""
    quick = Quick([k / 30 for k in range(60)])
    quick.keeps_pace = False
    feed = Feed(quick, lambda: False)
    for _ in feed:
        time.sleep(0.001)
    assert (feed.n_taken, feed.n_dropped) == (60, 0)


def test_an_error_of_the_camera_arrives() -> None:
    """What goes wrong in the reading thread is raised where the pictures are used."""

    class Broken(Quick):
        def _pictures(self) -> Iterator[Shot]:
            yield from super()._pictures()
            raise UserError("the cable is out")

    with pytest.raises(UserError, match="cable"):
        list(Feed(Broken([0.0, 1.0]), lambda: False))


def test_a_silent_camera_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a picture for a while the session ends, and the camera's warning says why."""
    monkeypatch.setattr(camera_module, "SILENCE_S", 0.3)

    class Silent(Quick):
        def _pictures(self) -> Iterator[Shot]:
            yield from super()._pictures()
            time.sleep(3)

    silent = Silent([0.0, 1.0])
    assert len(list(Feed(silent, lambda: False))) == 2
    assert silent.warnings == ["quick: no picture for 0.3 s"]


def test_stamps_that_stand_still_or_step_back_leave_the_frame_out() -> None:
    """Times begin at 0 and increase; frames without a time of their own are counted."""
    quick = Quick([5.0, 5.1, 5.1, 5.05, 5.3])
    assert [round(t, 6) for _, t in quick.shots()] == [0.0, 0.1, 0.3]
    assert quick.n_stale == 2


class Capture:
    """Stands in for cv2.VideoCapture: a device with a driver's clock."""

    def __init__(self, stamps_ms: list[float], is_open: bool = True) -> None:
        self.left, self.stamp, self.is_open = list(stamps_ms), 0.0, is_open

    def isOpened(self) -> bool:  # noqa: N802
        return self.is_open

    def grab(self) -> bool:
        if self.left:
            self.stamp = self.left.pop(0)
            return True
        return False

    def read(self) -> tuple[bool, Any]:
        return self.grab(), np.zeros((4, 4, 3), np.uint8)

    def get(self, what: int) -> float:
        return self.stamp

    def release(self) -> None:
        self.left = []


def device(monkeypatch: pytest.MonkeyPatch, capture: Capture) -> Device:
    monkeypatch.setattr(camera_module.cv2, "VideoCapture", lambda number: capture)
    found = open_camera("1")
    assert isinstance(found, Device)
    return found


def test_times_are_the_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that stamps its pictures is believed, and its end is told."""
    found = device(monkeypatch, Capture([7e6 + 40 * k for k in range(10)]))
    times = [t for _, t in found.shots()]
    np.testing.assert_allclose(times, 0.04 * np.arange(7), atol=1e-6)
    assert found.stamps == "camera" and found.warnings == ["camera 1 stopped giving pictures"]


@pytest.mark.parametrize("stamp_ms", [0.0, 33.0])
def test_times_are_of_arrival_without_a_clock(monkeypatch: pytest.MonkeyPatch, stamp_ms: float) -> None:
    """Stamps that stand still are none: the arrival is taken, and named."""
    found = device(monkeypatch, Capture([stamp_ms] * 6))
    times = [t for _, t in found.shots()]
    assert found.stamps == "arrival" and len(times) == 3 and (np.diff(times) > 0).all()


def test_a_camera_that_cannot_be_opened_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the camera and what may be the cause."""
    with pytest.raises(UserError, match=r"--camera 1: cannot be opened.*video"):
        device(monkeypatch, Capture([], is_open=False))


def frame_at(time_s: float) -> LiveFrame:
    arrays = {"frames": np.zeros((8, 8, 3), np.uint8)}
    return LiveFrame(time_s, np.zeros((480, 640, 3), np.uint8), np.zeros(4, np.float32), True, arrays)


def test_the_window_forgets() -> None:
    """However long the session, the window holds its span, and no picture."""
    window = LiveWindow(5.0)
    for k in range(2000):
        window.add(frame_at(k / 30))
    frames = window.frames()
    assert len(frames) == 151 and window.filled_s == pytest.approx(5.0)
    assert all(frame.picture.nbytes == 0 and frame.picture.base is None for frame in frames)


def test_a_pause_begins_the_window_anew() -> None:
    """Over a gap of more than half a second nothing is interpolated."""
    window = LiveWindow(5.0)
    for time_s in [*np.arange(0, 2, 1 / 30), *np.arange(2.8, 4, 1 / 30)]:
        window.add(frame_at(float(time_s)))
    assert window.frames()[0].time_s == pytest.approx(2.8) and window.n_pauses == 1


def test_rows_of_the_past_are_not_kept() -> None:
    """A video without an end leaves only its newest block in the cropper."""
    rows = NewestRows((4,), np.float32)
    for k in range(1000):
        rows.add(np.full((8, 4), k))
    assert rows.whole().shape == (8, 4) and rows.whole().max() == 999 and rows.whole().dtype == np.float32


def held(times: np.ndarray) -> HeldRecording:
    wave = np.sin(2 * np.pi * times)
    arrays = {
        "frames": [np.full((2, 2, 3), 128 + 100 * value, np.uint8) for value in wave],
        "roi_rgb": [np.full((4, 3), value, np.float32) for value in wave],
        "face_found": [np.asarray(abs(t - 1) > 0.01) for t in times],
    }
    return HeldRecording("window", times, arrays, {})


def test_even_frames_are_read_as_they_are() -> None:
    """Times within a tenth of a step of even ones, as a container rounds them, change no value."""
    times = np.round(np.arange(90) / 30, 3)
    recording = held(times)
    np.testing.assert_array_equal(recording.array("frame_time_s"), times)
    wanted = np.sin(2 * np.pi * times).astype(np.float32)
    np.testing.assert_array_equal(recording.array("roi_rgb")[:, 0, 0], wanted)
    assert recording.read_frames(3, 7).dtype == np.uint8 and recording.read_frames(3, 7).shape == (4, 2, 2, 3)


def test_uneven_frames_are_put_on_even_times() -> None:
    """Where frames were lost, values are those of the even times; a face is there where both have it."""
    rng = np.random.default_rng(1)
    kept = rng.random(120) > 0.2
    kept[30] = True
    recording = held(np.arange(120)[kept] / 30)
    even = recording.array("frame_time_s")
    np.testing.assert_allclose(np.diff(even), np.diff(even).mean())
    wanted = np.sin(2 * np.pi * even)
    assert np.abs(recording.array("roi_rgb")[:, 0, 0] - wanted).max() < 0.06
    assert np.abs(recording.read_frames(0, len(even))[:, 0, 0, 0] - (128 + 100 * wanted)).max() < 7
    np.testing.assert_array_equal(recording.array("roi_rgb", 10, 20), recording.array("roi_rgb")[10:20])
    lost = even[~recording.array("face_found")]
    assert lost[0] < 1 < lost[-1] and len(lost) < 5


def answer(address: str, path: str = "/state", method: str = "GET", **headers: str) -> SimpleNamespace:
    host, port = re.findall(r"http://([\d.]+):(\d+)/", address)[0]
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request(method, path, headers=headers)
    got = connection.getresponse()
    found = SimpleNamespace(status=got.status, text=got.read().decode(), headers=got.headers)
    connection.close()
    return found


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(Board(source="somebody's camera"), 0) as found:
        yield found


def test_the_page_is_on_this_machine_only(address: str) -> None:
    """It is bound to 127.0.0.1, not to an address that others reach."""
    assert address.startswith("http://127.0.0.1:")
    port = int(address.rstrip("/").rpartition(":")[2])
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    sockets = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()]
    bound = [words[1] for words in sockets if words[3] == "0A" and words[1].endswith(f":{port:04X}")]
    assert bound == [f"0100007F:{port:04X}"] or not tables[0].exists()


@pytest.mark.parametrize("headers", [
    {"Host": "evil.example"}, {"Host": "evil.example:80"}, {"Host": "127.0.0.1"}, {"Host": ""},
    {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
])
@pytest.mark.parametrize("path", ["/", "/state"])
def test_foreign_pages_are_refused(address: str, headers: dict[str, str], path: str) -> None:
    """A name that was rebound to this machine, and a page of another site, get neither page nor picture."""
    got = answer(address, path, **headers)
    assert got.status == 403 and "camera" not in got.text


def test_own_names_are_served(address: str) -> None:
    """127.0.0.1 and localhost with the port are the page's names."""
    port = address.rstrip("/").rpartition(":")[2]
    for name in (f"127.0.0.1:{port}", f"LOCALHOST:{port}"):
        assert json.loads(answer(address, Host=name, Origin=f"http://{name.lower()}").text) == {
            "source": "somebody's camera"}
    page = answer(address, "/")
    assert "script-src 'nonce-" in page.headers["Content-Security-Policy"] and "@NONCE@" not in page.text
    assert not re.search(r"(src|href)=[\"']?(?!data:)\w", page.text) and "http://" not in page.text


@pytest.mark.parametrize("path", ["/page.html", "/../page.html", "/state/..", "//etc/passwd", "/?x=1", "*"])
def test_no_file_is_served(address: str, path: str) -> None:
    """There are two addresses and no others."""
    assert answer(address, path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(address: str, method: str) -> None:
    """Only reading is known."""
    assert answer(address, method=method).status == 501


def test_a_taken_port_is_named(address: str) -> None:
    """The message names the port and the remedy."""
    port = int(address.rstrip("/").rpartition(":")[2])
    with pytest.raises(UserError, match=rf"--port {port}.*choose another"), serving(Board(), port):
        pass
    with pytest.raises(UserError, match="--port 99999"), serving(Board(), 99999):
        pass


def test_the_page_shows_what_was_estimated(whole: tuple[Session, Path], tmp_path: Path) -> None:
    """In a real browser: rate, quality, method, frames, box, and that it is over; an empty console."""
    board = whole[0].board
    state = json.loads(board.text())
    assert state["picture"].startswith("data:image/jpeg;base64,") and len(state["box"]) == 4
    with serving(board, 0) as address:
        dom, console = in_chromium(address, tmp_path / "profile", TIME)
    assert console == []
    made = state["estimate"]
    assert f'id="rate">{made["heart_rate_bpm"]:.0f}<' in dom
    assert f'id="quality">{made["quality"]:.2f}<' in dom
    for fact in ("pos", "seen", f"{state['n_seen']}, 0 dropped", "the file's"):
        assert f"<dd>{fact}</dd>" in dom
    assert 'id="state">The watching has ended.<' in dom and "Heart rate from vid.avi" in dom
    assert re.search(r'<canvas id="wave"[^>]* width="[1-9]\d{2,}"', dom)


def test_a_guess_is_not_shown_as_a_rate(tmp_path: Path) -> None:
    """Below the quality at which there may be no pulse, the page's large number is a dash."""
    board = Board(source="<b>x</b>", method="pos", window_s=15.0, stamps="camera")
    made = Estimate(6.0, 80.0, 0.25, -3.0, 30.0, 6.0, 180, 180, [0.0, 6.0], [0.1, None], ["a <i>guess</i>"])
    board.show(time_s=6.0, n_seen=180, n_dropped=3, n_pauses=0, filled_s=6.0)
    board.show_estimate(made.as_dict())
    with serving(board, 0) as address:
        dom, console = in_chromium(address, tmp_path / "profile", TIME)
    assert console == [] and 'id="rate">–<' in dom
    assert "the guess would be 80 bpm" in dom and "a &lt;i&gt;guess&lt;/i&gt;" in dom
    assert "3 frames were dropped" in dom and "from &lt;b&gt;x&lt;/b&gt;" in dom


def test_interrupted_at_its_own_pace(film: Path, tmp_path: Path) -> None:
    """By the command line: the page counts frames as the film plays; Ctrl-C ends it, summary and 0."""
    out = tmp_path / "s"
    run = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), "predict", "--camera", str(film), "--out", str(out)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
    try:
        assert run.stdout is not None
        address = re.findall(r"http://127\.0\.0\.1:\d+/", run.stdout.readline())[0]
        seen, deadline = 0, time.monotonic() + 60
        while seen < 20 and time.monotonic() < deadline:
            with urllib.request.urlopen(address + "state", timeout=10) as got:
                seen = json.load(got).get("n_seen", 0)
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        said, _ = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 0 and "frames" in said
    summary = json.loads((out / "summary.json").read_text())
    assert seen >= 20 and summary["n_frames"] >= seen and summary["duration_s"] < SECONDS
