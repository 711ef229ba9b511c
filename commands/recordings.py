"""The recordings of an experiment: in the store, and divided into parts."""

from __future__ import annotations

import functools
import gc
from pathlib import Path

from commands import lineage
from commands.lineage import Learned
from dataset.index import RecordingInfo, load_failed, load_infos, load_left_out, recording_key
from dataset.split import Parts, make_split
from preprocessing.defects import known, left_out
from preprocessing.manifest import Manifest
from preprocessing.report import warnings_in_words
from preprocessing.run import StoreReport, preprocess
from utils.errors import UserError
from utils.files import digest, read_json, write_json
from utils.settings import RunConfig


def fill(config: RunConfig) -> StoreReport:
    """Bring the store up to date."""
    gc.freeze()  # the libraries' objects stay: collections among many recordings need not visit them
    return preprocess(
        config.data.sets, Path(config.data.store), config.preprocessing, config.logging.progress
    )


def divide(config: RunConfig) -> tuple[dict[str, RecordingInfo], Parts]:
    """The recordings of the store by key, and who is in which part.

    A training part is only asked for where something is trained. What is known against the recordings that
    take part is noted in the split, as is what was left out, and who is known to the weights to start from.
    Recordings with an origin of their own only bear the names of a dataset's: nothing is known against them.
    """
    store, names = Path(config.data.store), [entry.name for entry in config.data.sets]
    read = functools.cache(Manifest)  # one parse of a large manifest serves all three
    excluded = load_left_out(store, {entry.name: left_out(entry) for entry in config.data.sets}, read)
    exclude = {
        entry.name: [*entry.exclude, *(info.recording for info in excluded if info.dataset == entry.name)]
        for entry in config.data.sets
    }
    infos = {info.key: info for info in load_infos(store, names, exclude, read)}
    parts = make_split(
        list(infos.values()), config.split, config.run.seed, failed=load_failed(store, names, exclude, read),
        excluded=excluded, require=("train", "test") if lineage.is_trained(config) else ("test",),
    )
    parts.exclusion_reasons = {info.key: info.reason for info in excluded}
    reasons = {recording_key(name, rec): why for name in names for rec, why in known(name).items()}
    parts.known_defects = {key: reasons[key] for name in parts.parts for key in parts.keys(name)
                           if key in reasons and "origin" not in infos[key].conditions}
    parts.preprocessing_warnings = warnings_in_words(
        {key: infos[key].warnings for name in parts.parts for key in parts.keys(name)})
    parts.start_leaks = lineage.warnings(lineage.of_start(config), parts)
    return infos, parts


def keep_split(infos: dict[str, RecordingInfo], parts: Parts, path: Path, learned: Learned) -> None:
    """Write split.json; refuse to continue a run whose split or recordings have changed since.

    content_hash is that of the stored files: the same people filmed anew are another dataset.
    """
    used = [key for name in parts.parts for key in parts.keys(name)]
    made = {**parts.to_json(), lineage.KEY: learned.to_json(),
            "content_hash": digest({key: infos[key].sha256 for key in used})}
    if path.exists():
        before = read_json(path)
        for key, what in {"hash": "the split", "content_hash": "the recordings"}.items():
            if before.get(key) != made[key]:
                raise UserError(f"{path}: {what} changed since this run began; choose another run.name, "
                                "or delete the folder")
    write_json(path, made)
