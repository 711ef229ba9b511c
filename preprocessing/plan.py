"""Decides, recording by recording, what of the store can be used and what has to be made."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from preprocessing import defects, freshness, sources
from preprocessing.extract import ExtractSettings
from preprocessing.manifest import NAME, Manifest, missing_fields
from preprocessing.report import DatasetReport
from preprocessing.sightings import Sightings
from preprocessing.sources import RawRecording, Source
from preprocessing.sources.base import ORIGIN_FILE
from preprocessing.work import Task
from utils import files, interrupt, runlog
from utils.errors import UserError
from utils.registry import did_you_mean
from utils.settings import Preprocessing, RawSet

VANISHED = "its source is no longer there"
NEW = "not in the store"
FAILED = "failed before"


@dataclass
class DatasetPlan:
    """One dataset: its manifest, its report, the tasks, and why each is one."""

    manifest: Manifest
    sightings: Sightings
    report: DatasetReport = field(default_factory=DatasetReport)
    tasks: dict[str, Task] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the dataset's files lie."""
        return self.manifest.path.parent


class _Wanted:
    """What the params want of one raw set, worked out once for all of its recordings."""

    def __init__(self, raw_set: RawSet, settings: Preprocessing) -> None:
        self.raw_set, self.settings, self.root = raw_set, settings, Path(raw_set.root)
        self.left_out = defects.left_out(raw_set)
        self.extraction = ExtractSettings.from_params(settings)
        self._contents: dict[type, dict[str, Any]] = {}

    def content(self, kind: type) -> dict[str, Any]:
        """`freshness.content_settings` of recordings of that class."""
        if kind not in self._contents:
            self._contents[kind] = freshness.content_settings(self.extraction, self.raw_set.options, kind)
        return self._contents[kind]


def make(
    sets: list[RawSet], store: Path, settings: Preprocessing, progress: bool
) -> dict[str, DatasetPlan]:
    """The plan of every dataset by name; no file is changed.

    UserError for a set that is not what params say, and, where `settings.enabled` is false, for a
    store that was made otherwise or lacks a recording.
    """
    plans: dict[str, DatasetPlan] = {}
    for name in dict.fromkeys(raw_set.name for raw_set in sets):
        path = store / files.safe_name(name) / NAME
        plan = plans[name] = DatasetPlan(Manifest(path), Sightings(path.parent))
        same = [raw_set for raw_set in sets if raw_set.name == name]
        at_hand = [raw_set for raw_set in same if settings.enabled or Path(raw_set.root).exists()]
        items = [(wanted, item) for wanted in (_Wanted(raw_set, settings) for raw_set in at_hand)
                 for item in _recordings(wanted.raw_set)]
        _refuse_twins(name, [item.recording for _, item in items])
        for wanted, recording in runlog.track(items, f"checking {name}", enabled=progress):
            interrupt.check()
            _place(plan, wanted, recording)
        there = {item.recording for _, item in items}
        gone = [key for key in plan.manifest.entries if key not in there]
        if settings.enabled:
            _set_aside(plan, gone)
        else:
            _take_as_it_is(plan, same, settings, gone)
            _refuse_stale(plan, same)
    return plans


def _recordings(raw_set: RawSet) -> list[RawRecording]:
    """The recordings of a set in natural order; UserError when it is not what params say."""
    try:
        source = _built(raw_set)
        found = sorted(source.recordings(), key=lambda item: files.natural_key(item.recording))
        is_made_up = (Path(raw_set.root) / ORIGIN_FILE).is_file()
        notes = [] if is_made_up else source.notes()  # a made copy is small on purpose
    except OSError as error:
        place = error.filename or raw_set.root
        raise UserError(f"data.sets: {raw_set.name}: {place}: {error.strerror or error}") from None
    if not found:
        raise UserError(f"{raw_set.root}: no recordings of {raw_set.name} found")
    known = [item.recording for item in found]
    for name in raw_set.exclude:
        if name not in known:
            hint = did_you_mean(name, known)
            raise UserError(f"data.sets: {raw_set.name} has no recording {name!r} to exclude{hint}")
    for note in notes:
        runlog.warn(f"{raw_set.name}: {note}")
    return _with_origin(found, Path(raw_set.root) / ORIGIN_FILE)


def _built(raw_set: RawSet) -> Source:
    """The reader of a set; UserError for options it does not take."""
    try:
        return sources.build(raw_set.name, raw_set.root, **raw_set.options)
    except (KeyError, ValueError) as error:
        raise UserError(f"data.sets: {error.args[0]}") from None


def _with_origin(found: list[RawRecording], path: Path) -> list[RawRecording]:
    """The recordings with the condition "origin", where the root of their set says that it is made up."""
    if not path.is_file():
        return found
    stated = files.read_json(path, files.FOREIGN_JSON_BYTES)
    origin = stated.get("origin") if isinstance(stated, dict) else None
    if not isinstance(origin, str):
        raise UserError(f'{path}: must hold {{"origin": text}}')
    return [replace(item, conditions={**item.conditions, "origin": origin}) for item in found]


def _refuse_twins(name: str, recordings: list[str]) -> None:
    """No two recordings of a dataset may have one id, nor ids that differ in case only."""
    counts = Counter(recording.lower() for recording in recordings)
    twins = sorted(recording for recording in recordings if counts[recording.lower()] > 1)
    if twins:
        raise UserError(f"data.sets: {name} has recordings with the same id: {', '.join(twins)}")


def _place(plan: DatasetPlan, wanted: _Wanted, recording: RawRecording) -> None:
    """Decide about one recording: left out, failed at once, reused, or a task."""
    key, report, entries = recording.recording, plan.report, plan.manifest.entries
    settings, root, left_out = wanted.settings, wanted.root, wanted.left_out
    if key in left_out:
        report.excluded.append(key)
        entries.setdefault(key, {
            "status": "absent", "reason": left_out[key], "subject": recording.subject,
            "people": recording.people,
        })
        return
    content = wanted.content(type(recording))
    task = Task(recording, root, plan.manifest.file(key), wanted.extraction, content, {})
    try:
        task = replace(task, identity=plan.sightings.identity(recording, root, settings.verify))
    except (UserError, OSError) as error:
        report.failed[key] = str(error)
        entries[key] = {"status": "failed", "reason": str(error), **task.description()}
        return
    why = _staleness(plan.manifest, task, settings.verify)
    if why is None and not settings.enabled and entries[key]["status"] == "absent":
        why = "set aside before"
    if why is None:
        entries[key] |= {"status": "done", "reason": ""}
        report.reused.append(key)
    else:
        plan.tasks[key], plan.why[key] = task, why


def _staleness(manifest: Manifest, task: Task, verify: bool) -> str | None:
    """Why a recording cannot be reused; None when it can."""
    key = task.recording.recording
    entry = manifest.entries.get(key)
    if entry is None or "settings" not in entry:
        return NEW
    differing = freshness.differing_keys(entry["settings"], task.content)
    if differing or entry.get("settings_hash") != files.digest(task.content):
        return f"made with other settings ({', '.join(differing) or 'hash'})"
    if not freshness.same_source(entry.get("identity"), task.identity):
        return "made from other source files" + (", or not verified" if verify else "")
    if any(entry.get(name) != getattr(task.recording, name) for name in ("subject", "people", "conditions")):
        return "made of another subject or under other conditions"
    if entry["status"] == "failed" or (entry["status"] != "done" and missing_fields(key, entry)):
        return FAILED
    return _file_problem(task.target, entry, verify)


def _file_problem(path: Path, entry: dict[str, Any], verify: bool) -> str | None:
    """What is wrong with a stored file, judged by its line; None when nothing is."""
    if path.is_symlink() or not path.is_file():
        return "without its file"
    if path.stat().st_size != entry["bytes"]:
        return "with a file of another size"
    if verify and files.file_sha256(path) != entry["sha256"]:
        return "damaged (SHA-256)"
    return None


def _set_aside(plan: DatasetPlan, gone: list[str]) -> None:
    """Lines without a source are kept for its return, but not used."""
    entries = plan.manifest.entries
    fresh = [key for key in gone if entries[key]["status"] != "absent"]
    for key in fresh:
        entries[key] |= {"status": "absent", "reason": VANISHED}
    if fresh:
        listed = ", ".join(fresh)
        runlog.warn(f"store {plan.folder.name}: not used, no source for them any more: {listed}")


def _take_as_it_is(
    plan: DatasetPlan, sets: list[RawSet], settings: Preprocessing, keys: list[str]
) -> None:
    """Recordings whose source is not at hand: used if their files and settings are as they should be."""
    left_out = {name for raw_set in sets for name in defects.left_out(raw_set)}
    chosen = ExtractSettings.from_params(settings)
    contents = [freshness.content_settings(chosen, raw_set.options, None) for raw_set in sets]
    for key in keys:
        entry = plan.manifest.entries[key]
        if key in left_out or entry["status"] == "absent":
            plan.report.excluded.append(key)
            continue
        if entry["status"] == "failed":
            plan.report.failed[key] = entry["reason"]
            continue
        stored = {name: value for name, value in entry["settings"].items() if name != "code"}
        differing = min((freshness.differing_keys(stored, content) for content in contents), key=len)
        problem = _file_problem(plan.manifest.file(key), entry, settings.verify)
        if differing:
            problem = f"made with other settings ({', '.join(differing)})"
        if problem:
            plan.why[key] = problem
        plan.report.reused.append(key)
    if keys:
        runlog.warn(f"store {plan.folder.name}: {len(keys)} recordings taken without a look at their sources")
    absent = {key for key in keys if plan.manifest.entries[key]["status"] == "absent"}
    if absent - left_out:
        listed = ", ".join(sorted(absent - left_out, key=files.natural_key))
        runlog.warn(f"store {plan.folder.name}: not used, as the store does not hold them: {listed}")


def _refuse_stale(plan: DatasetPlan, sets: list[RawSet]) -> None:
    """With preprocessing switched off, everything must be there and as params want it."""
    for key in [key for key, why in plan.why.items() if why == FAILED]:
        entry = plan.manifest.entries[key]
        plan.report.failed[key] = entry["reason"] or "its line in the manifest is damaged"
        del plan.tasks[key], plan.why[key]
    if plan.why:
        counts = Counter(plan.why.values())
        listed = "; ".join(f"{n} {why}" for why, n in counts.items())
        raise UserError(
            f"{plan.folder}: {len(plan.why)} recordings cannot be used: {listed} "
            f"(first: {next(iter(plan.why))}); set preprocessing.enabled = true to make them, "
            "or use the settings they were made with"
        )
    if not plan.manifest.entries:
        raise UserError(f"{sets[0].root}: no such folder, and {plan.folder} holds no recordings either")
