"""Finding the face in one picture: the finders behind one small interface."""

from __future__ import annotations

import abc
import contextlib
import os
import warnings as python_warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.frames import Frame
from utils.errors import UserError
from utils.registry import Registry

FACE_FINDERS = Registry("face finder")

N_LANDMARKS = 468
HEIGHT_PER_SPREAD = 4.5
"""Height of a face over the standard deviation of its mesh points' y (4.37 to 4.58 on eight faces)."""
_HEIGHT_PER_DETECTION, _RISE_OF_DETECTION = 1.09, 0.06
"""What turns BlazeFace's square (brows to chin) into centre and height of the mesh, on those faces."""

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """What one look at a picture found, in pixels of that picture; nothing where `box` is None."""

    box: tuple[float, float, float] | None = None
    """Centre x, centre y and height of the face, forehead to chin."""
    landmarks: Points | None = None
    """(468, 2) mesh points, x and y."""


class FaceFinder(abc.ABC):
    """Looks for the face of one video, first frame first; may carry state from look to look."""

    looks = True
    """Whether it looks at all; False: the picture is the crop by declaration."""
    follows = True
    """Whether to look again after the face was found; False: the first box is kept."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    @abc.abstractmethod
    def look(self, frame: Frame) -> Look:
        """Find the face in an RGB picture, uint8 (H, W, 3)."""

    def close(self) -> None:
        """Free what the finder holds; it is not used afterwards."""
        return None

    def _note_company(self, n_faces: int) -> None:
        if n_faces > 1 and not self.warnings:
            self.warnings.append(f"{n_faces} faces in one picture; the largest when first seen is followed")


def build(name: str, model: str | None = None) -> FaceFinder:
    """The face finder of that name. `model`: path for the one that needs a model file.

    UserError when the finder is unknown, needs a model and has none, or takes none and has one.
    """
    if name not in FACE_FINDERS.names():
        raise UserError(f"preprocessing.face_finder: {FACE_FINDERS.unknown(name)}")
    takes_model = "model" in FACE_FINDERS.options(name)
    if model is not None and not takes_model:
        raise UserError(f"preprocessing.face_model: {name} takes no model file; set it to null")
    finder: FaceFinder = FACE_FINDERS.build(name, **({"model": model} if takes_model else {}))
    return finder


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence start-up messages that the face models write to standard error from C++."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def height_of(landmarks: Points) -> tuple[float, float, float]:
    """Centre and height of a face from its mesh points (468, 2).

    Mean and spread average over all points; the outermost points alone jitter seven times more.
    """
    centre = landmarks.mean(axis=0)
    return float(centre[0]), float(centre[1]), HEIGHT_PER_SPREAD * float(landmarks[:, 1].std())


def _started(solution: Any) -> Any:
    """Run a first picture through, so that the model's threads have said what they say."""
    python_warnings.filterwarnings("ignore", message="SymbolDatabase.GetPrototype")
    solution.process(np.zeros((64, 64, 3), dtype=np.uint8))
    return solution


class _Detector:
    """BlazeFace (short range): boxes of all faces in a picture, largest first."""

    def __init__(self) -> None:
        with quiet():
            from mediapipe.python.solutions import face_detection

            self._solution = _started(face_detection.FaceDetection(min_detection_confidence=0.5))

    def boxes(self, frame: Frame) -> list[tuple[float, float, float]]:
        """(centre x, centre y, height) of each face as the mesh would have it, in pixels."""
        high, wide = frame.shape[:2]
        found = []
        for detection in self._solution.process(frame).detections or ():
            box = detection.location_data.relative_bounding_box
            height = _HEIGHT_PER_DETECTION * box.height * high
            y = (box.ymin + box.height / 2) * high - _RISE_OF_DETECTION * height
            found.append(((box.xmin + box.width / 2) * wide, y, height))
        return sorted(found, key=lambda item: (-item[2], item))

    def close(self) -> None:
        self._solution.close()


@FACE_FINDERS.register("mediapipe_mesh")
class MeshFinder(FaceFinder):
    """MediaPipe face mesh in tracking mode, 468 points; its models come with the package.

    Where several faces are seen when one is looked for, the largest is followed; a second face is
    also noticed later, by a count at every 48th look.
    """

    _count_every = 48

    def __init__(self) -> None:
        super().__init__()
        self._detector = _Detector()
        with quiet():
            from mediapipe.python.solutions import face_mesh

            self._mesh = _started(face_mesh.FaceMesh(max_num_faces=1, refine_landmarks=False))
        self._has_face, self._looks = False, 0

    def look(self, frame: Frame) -> Look:
        """Follow the face, or find the largest when none is being followed."""
        self._looks += 1
        if not self._has_face or self._looks % self._count_every == 0:
            faces = self._detector.boxes(frame)
            self._note_company(len(faces))
            if not self._has_face and len(faces) > 1:
                frame = _only(frame, faces[0])
        found = self._mesh.process(frame).multi_face_landmarks
        if found and not self._has_face:  # again, from the mesh's own region instead of the detector's
            found = self._mesh.process(frame).multi_face_landmarks
        self._has_face = bool(found)
        if not found:
            return Look()
        points = np.array([(p.x, p.y) for p in found[0].landmark], dtype=np.float64)
        points *= (frame.shape[1], frame.shape[0])
        return Look(height_of(points), points)

    def close(self) -> None:
        """Close both models."""
        self._mesh.close()
        self._detector.close()


def _only(frame: Frame, face: tuple[float, float, float]) -> Frame:
    """A copy in which everything farther than a face's height from `face` is grey."""
    x, y, height = face
    top, left = max(0, int(y - height)), max(0, int(x - height))
    area = (slice(top, int(y + height)), slice(left, int(x + height)))
    alone = np.full_like(frame, 128)
    alone[area] = frame[area]
    return alone


@FACE_FINDERS.register("mediapipe_detection")
class DetectionFinder(FaceFinder):
    """MediaPipe face detection (BlazeFace): a box without mesh points."""

    def __init__(self) -> None:
        super().__init__()
        self._detector = _Detector()
        self._last: tuple[float, float, float] | None = None

    def look(self, frame: Frame) -> Look:
        """The largest face at first, then the one nearest to the last."""
        faces = self._detector.boxes(frame)
        self._note_company(len(faces))
        if not faces:
            self._last = None
            return Look()
        if self._last is not None:
            x, y, _ = self._last
            faces.sort(key=lambda face: (face[0] - x) ** 2 + (face[1] - y) ** 2)
        self._last = faces[0]
        return Look(faces[0])

    def close(self) -> None:
        """Close the model."""
        self._detector.close()


@FACE_FINDERS.register("mediapipe_tasks")
class TasksFinder(FaceFinder):
    """MediaPipe Face Landmarker (mediapipe >= 0.10.30) with a model file, 468 of its 478 points."""

    def __init__(self, *, model: str | None = None) -> None:
        """`model`: path of face_landmarker.task, set by preprocessing.face_model."""
        super().__init__()
        if model is None or not Path(model).is_file():
            raise UserError(
                "preprocessing.face_finder mediapipe_tasks needs preprocessing.face_model, the path of a "
                f"face_landmarker.task file; got {model!r}"
            )
        self._landmarker, self._image = self._open(model)
        self._clock_ms = 0

    @staticmethod
    def _open(model: str) -> tuple[Any, Any]:
        import mediapipe

        major, minor, patch = (int(part) for part in mediapipe.__version__.split(".")[:3])
        if (major, minor, patch) < (0, 10, 30):
            raise UserError(
                "face finder mediapipe_tasks needs mediapipe >= 0.10.30, installed is "
                f"{mediapipe.__version__}; use mediapipe_mesh, or install the newer package"
            )
        from mediapipe.tasks.python import BaseOptions, vision

        with quiet():
            options = vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_path=model),
                running_mode=vision.RunningMode.VIDEO, num_faces=1,
            )
            landmarker = vision.FaceLandmarker.create_from_options(options)
        return landmarker, lambda frame: mediapipe.Image(
            image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame)
        )

    def look(self, frame: Frame) -> Look:
        """Follow the face by the landmarker's own tracking."""
        self._clock_ms += 33
        found = self._landmarker.detect_for_video(self._image(frame), self._clock_ms).face_landmarks
        if not found:
            return Look()
        points = np.array([(p.x, p.y) for p in found[0][:N_LANDMARKS]], dtype=np.float64)
        points *= (frame.shape[1], frame.shape[0])
        return Look(height_of(points), points)

    def close(self) -> None:
        """Close the model."""
        self._landmarker.close()


@FACE_FINDERS.register("haar")
class HaarFinder(FaceFinder):
    """OpenCV's Haar cascade on the first frame, the box then kept, as rPPG-Toolbox has it."""

    follows = False

    def __init__(self) -> None:
        super().__init__()
        file = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
        self._cascade = cv2.CascadeClassifier(str(file))
        if self._cascade.empty():
            raise UserError("face finder haar: this OpenCV ships no Haar cascades; use OpenCV 4")

    def look(self, frame: Frame) -> Look:
        """The largest face by area; its square box is taken as it is."""
        found = self._cascade.detectMultiScale(frame)
        if len(found) == 0:
            return Look()
        if len(found) > 1:
            self.warnings = [f"{len(found)} boxes found by haar; the largest one is taken"]
        x, y, wide, high = max(found, key=lambda box: int(box[2]) * int(box[3]))
        return Look((x + wide / 2, y + high / 2, float(high)))


@FACE_FINDERS.register("none")
class NoFinder(FaceFinder):
    """No finder: the picture is the face crop by declaration."""

    looks = False
    follows = False

    def look(self, frame: Frame) -> Look:
        """The whole picture."""
        high, wide = frame.shape[:2]
        return Look((wide / 2, high / 2, float(high)))
