"""The sections of a report with their figures, a part of the test recordings at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from matplotlib.figure import Figure

from evaluation import figures
from evaluation.figures.agreement import Pairs, agreement_note
from evaluation.figures.style import signed
from evaluation.report.files import Units
from evaluation.report.parts import Part
from evaluation.report.shown import band_of, panel, worst_units
from evaluation.table import number

N_BEST, N_WORST = 2, 4
MAX_PANELS = 8
SNR_NAMES = {"dehaan": "SNR after de Haan & Jeanne [dB]", "toolbox": "SNR, toolbox [dB]"}


@dataclass(frozen=True)
class Drawing:
    """A figure that can be drawn: its section, file name, caption, text for those who do not see it."""

    section: str
    name: str
    caption: str
    alt: str
    draw: Callable[[], Figure]


def drawings(parts: Sequence[Part]) -> Iterator[Drawing]:
    """Every figure about results for which there is data, in the order of the report."""
    for part in parts:
        if part.result.get("kind") == "detection":
            yield from _detection(part)
        elif part.is_main:
            for chapter in (_agreement, _errors, _quality, _waveforms):
                yield from chapter(part)
        else:
            yield from _extra(part)


def _agreement(part: Part) -> Iterator[Drawing]:
    title = part.section("Agreement with the reference")
    rows, pairs = part.rows, part.pairs()
    if any(row["mae_bpm"] is not None for row in rows.values()):
        text = "; ".join(f"{name} {number(row['mae_bpm'])} bpm" for name, row in rows.items())
        yield Drawing(title, part.file("methods"), "Mean absolute error and root mean square error of "
                      "each method; intervals from a bootstrap over subjects.",
                      f"Mean absolute errors: {text}.",
                      lambda: figures.method_bars(list(rows.values()), part.tint))
    if pairs:
        everything = part.pairs(constant=True)
        yield Drawing(title, part.file("error_shares"), "How large a share of the units has at most a given "
                      "absolute error; steep and far left is good. Failed units are not in it.",
                      _shares_alt(pairs), lambda: figures.error_shares(everything, part.tint))
        yield _bland_altman(part, title, pairs)
        yield _scatter(part, title, pairs)
        yield Drawing(title, part.file("error_over_rate"), "Mean absolute error over the reference heart "
                      f"rate. Points: the units of {part.first}; below: units in each range. A method that "
                      "is worse at high rates rises to the right; dashed: the constant rate.",
                      f"Rank correlation of error and rate: {_rank_text(pairs)}.",
                      lambda: figures.error_over_rate(everything, part.tint, part.mark))
    yield from _paired(part, title)


def _bland_altman(part: Part, title: str, pairs: Pairs) -> Drawing:
    chosen = dict(list(pairs.items())[:MAX_PANELS])
    limits = {name: (part.rows[name]["ci95"] or {}).get("me_bpm") for name in chosen}
    notes = {name: agreement_note(*pair, limits[name]) for name, pair in chosen.items()}
    caption = ("Bland-Altman plots: difference over mean, with bias (line) and 95 % limits of agreement "
               "(dashed: bias ± 1.96 sample standard deviations); each panel has a scale of its own.")
    if any(limits.values()):
        caption += " In brackets: 95 % interval of the bias, from a bootstrap over subjects."
    text = "; ".join(f"{name}: {note}" for name, note in notes.items()).replace("\n", ", ")
    return Drawing(title, part.file("bland_altman"), caption + _rest(pairs), text,
                   lambda: figures.bland_altman(chosen, notes, part.tint))


def _scatter(part: Part, title: str, pairs: Pairs) -> Drawing:
    chosen = dict(list(pairs.items())[:MAX_PANELS])
    notes = {}
    for name in chosen:
        row = part.rows[name]
        span = (row["ci95"] or {}).get("mae_bpm")
        interval = f" [{span[0]:.2f}, {span[1]:.2f}]" if span else ""
        notes[name] = (f"MAE {number(row['mae_bpm'])}{interval}\nRMSE {number(row['rmse_bpm'])}\n"
                       f"r {number(row['pearson_r'], 3)}, n {row['n']}").replace("-", "−")
    text = "; ".join(f"{name}: {note}" for name, note in notes.items()).replace("\n", ", ")
    return Drawing(title, part.file("scatter"), "Predicted over reference rate of each scored unit; dashed: "
                   "equality. MAE and RMSE in bpm, brackets: 95 % interval over subjects." + _rest(pairs),
                   text, lambda: figures.scatter(chosen, notes, part.tint))


def _rest(pairs: Pairs) -> str:
    """What a figure with a panel per method leaves out."""
    left = list(pairs)[MAX_PANELS:]
    return f" Not drawn: {', '.join(left)}." if left else ""


def _shares_alt(pairs: Pairs) -> str:
    shares = {name: 100 * float((np.abs(p - r) <= 5).mean()) for name, (r, p) in pairs.items()}
    return "; ".join(f"{name}: {value:.0f} % within 5 bpm" for name, value in shares.items()) + "."


def _rank_text(pairs: Pairs) -> str:
    """Spearman's correlation of reference rate and absolute error, where both vary."""

    texts = []
    for name, (reference, predicted) in pairs.items():
        error = np.abs(predicted - reference)
        if len(error) > 2 and np.ptp(error) > 0 and np.ptp(reference) > 0:
            texts.append(f"{name} {signed(float(scipy.stats.spearmanr(reference, error)[0]))}")
    return ", ".join(texts) or "not defined"


def _paired(part: Part, title: str) -> Iterator[Drawing]:
    """Differences to the first method, where metrics.json has them."""
    found: dict[str, tuple[float, tuple[float, float] | None]] = {}
    for entry in part.result.get("paired") or ():
        span = (entry["ci95"] or {}).get("mae_bpm")
        if entry["mae_bpm"] is not None:
            found[entry["against"]] = (entry["mae_bpm"], (span[0], span[1]) if span else None)
    if found:
        text = "; ".join(f"{name} {signed(value)}" for name, (value, _) in found.items())
        yield Drawing(title, part.file("paired"), "Difference of mean absolute errors on the same units; "
                      "lines: 95 % interval of a paired bootstrap over subjects. An interval that holds 0 "
                      "leaves open which one is better.",
                      f"MAE of {part.first} minus that of the others in bpm: {text}.",
                      lambda: figures.paired_differences(part.first, found, part.tint))


def _errors(part: Part) -> Iterator[Drawing]:
    title = part.section("Errors by subject and condition")
    errors: dict[str, dict[str, float]] = {}
    for subject, rows in part.units.scored.by("subject"):
        errors[subject] = {name: float(np.abs(mine.error_bpm).mean()) for name, mine in rows.by("method")}
    tint = {name: part.tint[name] for name in part.rows}
    if errors:
        yield Drawing(title, part.file("subjects"), "Mean absolute error of each subject, the worst of "
                      f"{part.first} first.", "Errors by subject; the table of recordings has the numbers.",
                      lambda: figures.subject_errors(errors, tint, part.mark))
    conditions = {
        name: values for name, values in (part.result.get("conditions") or {}).items()
        if any(row["mae_bpm"] is not None for value in values.values() for row in value["rows"])
    }
    if conditions:
        yield Drawing(title, part.file("conditions"), "Mean absolute error under each condition; n counts "
                      f"recordings, broad bars: 95 % interval of {part.first} over subjects.",
                      "Errors by condition; the tables above have the numbers.",
                      lambda: figures.condition_errors(conditions, tint, part.mark))


def _quality(part: Part) -> Iterator[Drawing]:
    title = part.section("Signal quality")
    clear = {name: rows.where(np.isfinite(rows.snr_db)) for name, rows in part.units.scored.by("method")}
    clear = {name: clear[name] for name in part.rows if len(clear.get(name, ()))}
    if not clear:
        return
    variant = str(part.protocol.get("snr", ""))
    name = SNR_NAMES.get(variant, f"SNR, {variant} [dB]")
    medians = ", ".join(f"{key} {signed(float(np.median(rows.snr_db)), 1)}" for key, rows in clear.items())
    yield Drawing(title, part.file("snr"), "Signal-to-noise ratio at the reference rate. Boxes: quartiles "
                  "and median, whiskers: 5 % to 95 %, ticks below: the units.",
                  f"Median SNR in dB: {medians}.",
                  lambda: figures.snr_distribution({k: u.snr_db for k, u in clear.items()}, name, part.tint))
    chosen = {key: (rows.snr_db, np.abs(rows.error_bpm)) for key, rows in list(clear.items())[:MAX_PANELS]}
    yield Drawing(title, part.file("error_over_snr"), "Error over signal-to-noise ratio: where waveforms are "
                  "clear, errors should be small.", "A panel per method: absolute error over SNR.",
                  lambda: figures.error_over_snr(chosen, name, part.tint))


def _waveforms(part: Part) -> Iterator[Drawing]:
    """The worst and best recordings of the first method, each at its worst unit."""
    if not part.first:
        return
    mine = part.units.where(part.units.method == part.first)
    worst = worst_units(mine)
    keys = list(worst)
    chosen = keys if len(keys) <= N_WORST + N_BEST else keys[:N_WORST] + keys[-N_BEST:]
    known = {wave.key: wave for wave in part.waveforms}
    band = band_of(part.protocol)
    panels = [_titled(panel(known[key], part.first, worst[key], band), worst[key], mine)
              for key in chosen if key in known]
    panels = [one for one in panels if one]
    if panels:
        yield Drawing(part.section("Waveforms"), part.file("waveforms"), "The worst and the best recordings "
                      f"of {part.first}: prediction over label, band-passed at {band[0]:g}–{band[1]:g} Hz; "
                      "spectra beside them (grey: label, dotted: reference rate), with predicted / reference "
                      "rate above.", "; ".join(one["title"] for one in panels),
                      lambda: figures.waveforms(panels, part.first))


def _titled(made: dict[str, Any], unit: Units, mine: Units) -> dict[str, Any]:
    """A panel with what it shows in its title."""
    if not made:
        return made
    n = int((mine.recording == unit.recording[0]).sum())
    where = f", worst of {n} windows: {unit.start_s[0]:.0f}–{unit.stop_s[0]:.0f} s" if n > 1 else ""
    return {**made, "title": f"{made['title']}{where}, error {signed(float(unit.error_bpm[0]))} bpm"}


def _extra(part: Part) -> Iterator[Drawing]:
    """A part beside the main one: what one needs to compare it."""
    pairs = part.pairs()
    title = part.section("")
    if pairs:
        yield _bland_altman(part, title, pairs)
        yield _scatter(part, title, pairs)
    yield from _errors(part)
    yield from _waveforms(part)


def _detection(part: Part) -> Iterator[Drawing]:
    """A part without any reference: is there a pulse."""
    rows = [row for row in part.result["rows"] if row["snr_db"] is not None]
    if rows:
        found = {name: sum(row["found"] for row in rows if row["method"] == name) for name in part.tint}
        text = ", ".join(f"{name} {n}" for name, n in found.items() if n)
        n_untested = len(part.result["rows"]) - len(rows)
        yield Drawing(part.section("Is there a pulse"), part.file("detections"), "Recordings without a "
                      "reference: how far each waveform stands out of noise of the same colour. Filled: a "
                      "periodic signal was found."
                      + (f" Not drawn, as they could not be tested: {n_untested}." if n_untested else ""),
                      f"Found by: {text or 'none'}.",
                      lambda: figures.detections(rows, part.tint, part.mark))
