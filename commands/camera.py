"""predict --camera: the heart rate of whoever sits before the camera, on a page and in a file."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import math
import time
from pathlib import Path
from typing import Any

from commands.live.board import Board
from commands.live.estimates import Estimate, Estimator
from commands.live.journal import Journal
from commands.live.server import serving
from commands.predict import SHORT_WINDOW_S, Predictor
from preprocessing.camera import Camera, Feed, open_camera
from preprocessing.crops import ExtractSettings
from preprocessing.frames import Frame
from preprocessing.live import LiveCrops, LiveFrame, LiveWindow
from utils import interrupt
from utils.errors import Interrupted, RecordingsFailed, UserError
from utils.runlog import say, warn

WINDOW_S, LONGEST_WINDOW_S = 15.0, 300.0
"""The default is the length on which the quality was calibrated."""
EVERY_S = 1.0
"""Time between two estimates, in the camera's time."""
FAREWELL_S = 1.5
"""How long the page stays after the end, for those who look at it to see that it is over."""


def watch(predictor: Predictor, args: argparse.Namespace) -> int:
    """Watch until the camera, the time or somebody (Ctrl-C, the usual end) ends it; the exit code."""
    window_s = WINDOW_S if args.window is None else args.window
    if not SHORT_WINDOW_S <= window_s <= LONGEST_WINDOW_S:
        raise UserError(f"--window {window_s:g}: {SHORT_WINDOW_S:g} to {LONGEST_WINDOW_S:g} seconds")
    if args.seconds is not None and not args.seconds > 0:
        raise UserError(f"--seconds {args.seconds:g}: must be above 0")
    copy = predictor.method.input_spec.quality
    if copy is not None:
        raise UserError(f"{predictor.name} reads the compressed copy {copy}, and a camera has none")
    camera = open_camera(args.camera, args.fast)
    journal = Journal(Path(args.out) if args.out else _folder_of_now())
    session = Session(predictor, camera, journal, window_s, args.seconds or math.inf)
    with interrupt.listening(), contextlib.ExitStack() as stack:
        if args.no_page:
            say(f"watching {camera.name}; Ctrl-C ends it  -> {journal.folder}")
        else:
            address = stack.enter_context(serving(session.board, args.port or 0))
            say(f"watching {camera.name} at {address}  Ctrl-C ends it  -> {journal.folder}")
        summary = session.run()
        code = _exit_code()
    rate = summary["heart_rate_bpm"]
    shown = "no heart rate" if rate is None else f"{rate:.1f} bpm"
    say(f"{camera.name}: {shown}, quality {summary['quality']:.2f}, {summary['n_frames']} frames, "
        f"{summary['n_dropped']} dropped -> {journal.folder}")
    for text in summary["warnings"]:
        warn(text)
    if not summary["n_frames_with_face"] and session.crops.finder.looks:
        raise RecordingsFailed(f"{camera.name}: no face was found in {summary['n_frames']} frames")
    return code


def _folder_of_now() -> Path:
    return Path("predictions") / f"camera_{datetime.datetime.now():%Y%m%d-%H%M%S}"


def _exit_code() -> int:
    """0, also after Ctrl-C, which is how one ends it; 143 after SIGTERM."""
    try:
        interrupt.check()
    except Interrupted as stop:
        return 0 if stop.exit_code == 130 else stop.exit_code
    return 0


class Session:
    """From pictures to estimates, with what is counted on the way."""

    def __init__(
        self, predictor: Predictor, camera: Camera, journal: Journal, window_s: float, seconds: float
    ) -> None:
        """window_s: how far each estimate looks back; seconds: when to stop, in the camera's time."""
        self._camera, self._journal, self._seconds = camera, journal, seconds
        self._method = predictor.name
        self.board = Board(source=camera.name, method=predictor.name, window_s=window_s, stamps=camera.stamps)
        self.crops = LiveCrops(
            ExtractSettings.from_params(predictor.preprocessing), predictor.method.input_spec.extras)
        self._window = LiveWindow(window_s)
        self._feed = Feed(camera, lambda: interrupt.requested() or self._time_s >= seconds)
        self._estimator = Estimator(predictor, self._note, in_background=camera.keeps_pace)
        self._time_s = self._estimated_s = -math.inf
        self._due_s, self._n_with_face = SHORT_WINDOW_S, 0
        self._newest: LiveFrame | None = None

    def run(self) -> dict[str, Any]:
        """Watch to the end, write the summary and return it; what went wrong is raised after that."""
        error = self._watched()
        warnings = [*self._warnings(), *([] if error is None else [str(error)])]
        summary = self._journal.finish(self._facts(), warnings)
        self.board.show(ended=str(error or "The watching has ended."), **self._counts())
        if self.board.is_watched:
            time.sleep(FAREWELL_S)
        if error is not None:
            raise error
        return summary

    def _watched(self) -> UserError | None:
        """Take all pictures and estimates; returns what cut them short."""
        try:
            try:
                for frame in self.crops.frames(self._feed, self._seen):
                    self._add(frame)
                self._last_estimate()
            finally:
                self._camera.close()
                self._estimator.close()
        except Interrupted:  # in the middle of an estimate
            return None
        except UserError as error:
            return error
        return None

    def _seen(self, frame: Frame, time_s: float) -> None:
        """A picture has arrived; until the first face it is shown as it is."""
        self._time_s = time_s
        self.board.show(time_s=round(time_s, 3), **self._counts())
        if self._newest is None:
            self.board.show_picture(frame, None, False)

    def _add(self, frame: LiveFrame) -> None:
        """A frame has been cropped: take it into the window, and estimate when it is time."""
        self._newest = frame
        self._n_with_face += frame.found
        self._window.add(frame)
        self.board.show_picture(frame.picture, frame.box, frame.found)
        filled_s = self._window.filled_s
        self.board.show(filled_s=round(filled_s, 2))
        if (
            frame.time_s >= self._due_s and filled_s >= SHORT_WINDOW_S
            and self._estimator.offer(self._window.frames())
        ):
            self._estimated_s, self._due_s = frame.time_s, frame.time_s + EVERY_S

    def _last_estimate(self) -> None:
        """One more for the frames since the last one, once that is through."""
        is_new = self._newest is not None and self._newest.time_s > self._estimated_s
        if not is_new or interrupt.requested() or self._window.filled_s < SHORT_WINDOW_S:
            return
        self._estimator.wait()
        self._estimator.offer(self._window.frames())

    def _note(self, made: Estimate) -> None:
        """An estimate is ready."""
        newest = self._newest
        box = None if newest is None else [round(v, 2) for v in newest.box.tolist()]
        self._journal.write(made, box=box, face_found=newest is not None and newest.found, **self._counts())
        self.board.show_estimate(made.as_dict())

    def _counts(self) -> dict[str, int]:
        return {"n_seen": self._feed.n_taken, "n_dropped": self._feed.n_dropped,
                "n_stale": self._camera.n_stale, "n_pauses": self._window.n_pauses}

    def _facts(self) -> dict[str, Any]:
        """What the summary says beside the estimates."""
        n, duration_s = self._feed.n_taken, max(self._time_s, 0.0)
        return {
            "video": self._camera.name, "method": self._method,
            "fps": (n - 1) / duration_s if duration_s > 0 else None, "n_frames": n,
            "n_frames_with_face": self._n_with_face, "n_dropped": self._feed.n_dropped,
            "n_stale": self._camera.n_stale, "n_pauses": self._window.n_pauses,
            "duration_s": duration_s, "window_s": self._window.span_s, "time_stamps": self._camera.stamps,
        }

    def _warnings(self) -> list[str]:
        counts = {
            "frames were dropped, as the work did not keep up": self._feed.n_dropped,
            "frames were left out, as their time was not after the one before": self._camera.n_stale,
            "pauses in the pictures, after each of which the window began anew": self._window.n_pauses,
        }
        told = [f"{n} {text}" for text, n in counts.items() if n]
        return [*self.crops.warnings, *self.crops.finder.warnings, *self._camera.warnings, *told]
