"""Published numbers: sourced, without doubles, impossible values flagged, equal to what was printed."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from evaluation import presets, published
from evaluation.published import Entry

FACTS = published.load()
PLANNED = {
    "green",
    "ica",
    "chrom",
    "pos",
    "lgi",
    "pbv",
    "omit",
    "physnet",
    "physnet_2dcnn",
    "physnet_3dcnn",
    "physnet_lstm",
    "physnet_bilstm",
    "physnet_convlstm",
    "deepphys",
    "tscan",
    "efficientphys",
    "physformer",
    "rppgnet",
    "stven_rppgnet",
    "autohr",
    "meta_rppg",
    "ssl_lfa_rea",
    "contrast_phys",
    "rhythmnet",
}


def decimals(value: float) -> int:
    return len(repr(value).partition(".")[2].rstrip("0"))


RECORDINGS = {"mmse_hr": 102, "vipl_hr": 2378, "obf": 200}
"""Sets that papers score whole; of the others there are parts of 12 recordings and more."""


def impossible(entry: Entry) -> bool:
    """RMSE^2 < SD^2 whatever was rounded away, for a sample SD over the stated recordings (or 12)."""
    values = entry.values
    rmse, sd = values.get("rmse_bpm", values.get("rmse")), values.get("sd_bpm", values.get("sd"))
    if rmse is None or sd is None:
        return False
    half = 0.5 * 10.0 ** -max(decimals(rmse), decimals(sd))
    n = FACTS.n_recordings(entry) or RECORDINGS.get(entry.test, 12)
    return bool(sd - half > math.sqrt(n / (n - 1)) * (rmse + half))


def test_every_row_is_sourced() -> None:
    """A row names a source, a protocol and a part that exist, and a dataset that is described."""
    for entry in FACTS.rows:
        assert entry.source in FACTS.sources and entry.protocol in FACTS.protocols
        assert entry.part is None or FACTS.parts[entry.part]["dataset"] == entry.test
        assert entry.test in FACTS.datasets and entry.values and set(entry.flags) <= {"misprint", "requoted"}
        assert entry.origin in ("own", "rerun", "copied", "copied_or_rerun")
    for named, used in (
        (FACTS.sources, {e.source for e in FACTS.rows}),
        (FACTS.protocols, {e.protocol for e in FACTS.rows}),
    ):
        assert set(named) == used


def test_kind_follows_from_the_sets() -> None:
    """Nothing trained is unsupervised, the same set intra, another one cross."""
    for entry in FACTS.rows:
        kind = "unsupervised" if entry.train is None else "intra" if entry.train == entry.test else "cross"
        assert entry.kind == kind, entry


def test_presets_that_reproduce_a_protocol_exist() -> None:
    """A protocol that claims a preset names one of this project."""
    assert {p["preset"] for p in FACTS.protocols.values()} - {None} <= set(presets.PRESETS)


def test_rows_that_cannot_be_are_exactly_the_flagged_ones() -> None:
    """RMSE^2 = ME^2 + SD^2 >= SD^2: a printed SD above the RMSE is a misprint, and no other row has one."""
    flagged = {id(e) for e in FACTS.rows if "SD exceeds" in e.flags.get("misprint", "")}
    assert {id(e) for e in FACTS.rows if impossible(e)} == flagged and len(flagged) == 5


def test_mean_error_and_sd_make_the_rmse() -> None:
    """RMSE^2 = ME^2 + SD^2 but for rounding (and n - 1 over 12 or more), or the row is flagged."""
    for entry in FACTS.rows:
        values = entry.values
        if {"me_bpm", "sd_bpm", "rmse_bpm"} <= set(values):
            made = math.hypot(values["me_bpm"], values["sd_bpm"])
            whole = 0.95 * values["rmse_bpm"] < made < 1.05 * values["rmse_bpm"]
            assert whole != ("misprint" in entry.flags), entry


def test_no_mae_is_above_its_rmse() -> None:
    """The mean of |e| is at most the root of the mean of e^2."""
    assert not [e for e in FACTS.rows if e.values.get("mae_bpm", 0) > e.values.get("rmse_bpm", math.inf)]


def test_lf_and_hf_rows_are_equal() -> None:
    """HF n.u. = 1 - LF n.u., so that both have the same SD, RMSE and r in every document."""

    def rows(quantity: str) -> dict[tuple, dict[str, float]]:
        return {
            (e.method, e.test, e.train, e.source): dict(e.values)
            for e in FACTS.rows
            if e.quantity == quantity
        }

    assert rows("lf") == rows("hf") and len(rows("lf")) > 20


def test_no_row_is_there_twice() -> None:
    """One document prints one set of values for a method, a training and a test set once."""
    seen = Counter(
        (e.name, e.test, e.train, e.quantity, e.source, tuple(e.values.items())) for e in FACTS.rows
    )
    assert not [key for key, n in seen.items() if n > 1]


def test_the_nets_of_this_project_have_rows() -> None:
    """Every method with published numbers, now registered or planned, is found by its registry name."""
    assert {e.method for e in FACTS.rows} >= PLANNED


@pytest.mark.parametrize(
    "method, test, train, source, wanted",
    [
        ("chrom", "ubfc_rppg_2", None, "pulsegan", (2.37, 4.91, 0.89)),
        ("pos", "ubfc_rppg_2", None, "dualgan_2", (8.35, 10.00, 0.24)),
        ("siamese_rppg", "ubfc_rppg_2", "ubfc_rppg_2", "siamese_4", (0.48, 0.97, None)),
        ("gideon2021", "ubfc_rppg_2", "ubfc_rppg_2", "gideon_3", (3.6, 4.6, 0.95)),
        ("contrast_phys", "ubfc_rppg_2", "ubfc_rppg_2", "contrastphys_1", (0.64, 1.0, 0.99)),
        ("contrast_phys", "pure", "pure", "rs_rppg_1", (0.69, 1.10, 0.99)),
        ("ssl_lfa_rea", "pure", "pure", "lfa_rea", (1.23, 2.01, 0.99)),
        ("chrom", "pure", None, "siamese_5", (2.07, 2.50, 0.99)),
        ("autohr", "vipl_hr", "vipl_hr", "autohr", (5.68, 8.68, 0.72)),
        ("physformer", "vipl_hr", "vipl_hr", "physformer", (4.97, 7.79, 0.78)),
        ("cvd", "vipl_hr", "vipl_hr", "cvd", (5.02, 7.97, 0.796)),
        ("stven_rppgnet", "mahnob_hci", "mahnob_hci", "meta_rppg", (4.03, 5.93, 0.88)),
        ("rhythmnet", "mahnob_hci", "vipl_hr", "rhythmnet", (None, 8.28, 0.64)),
        ("green", "ubfc_rppg_2", None, "toolbox2023", (19.81, None, None)),
        ("pos", "ubfc_rppg_2", None, "rhythmmamba_2", (4.08, 7.72, 0.92)),
        ("physnet", "pure", "ubfc_rppg_2", "factorizephys", (10.38, 21.14, 0.66)),
        ("physnet", "ubfc_rppg_2", "pure", "rhythmmamba_2", (0.98, 2.48, 0.99)),
        ("dual_gan", "ubfc_rppg_2", "pure", "dualgan", (0.74, 1.02, 0.997)),
        ("rppgnet", "obf", "obf", "stven", (None, 1.8, 0.992)),
        ("hr_cnn", "cohface", "cohface", "gideon_3", (8.1, 10.8, 0.29)),
    ],
)
def test_numbers_are_those_of_the_documents(
    method: str, test: str, train: str | None, source: str, wanted: tuple[float | None, ...]
) -> None:
    """A sample of cells, compared by hand with MAE, RMSE and r as printed."""
    found = [
        tuple(e.values.get(key) for key in ("mae_bpm", "rmse_bpm", "pearson_r"))
        for e in FACTS.rows
        if (e.method, e.test, e.train, e.source, e.quantity) == (method, test, train, source, "hr")
    ]
    assert wanted in found


def test_known_slips_are_flagged() -> None:
    """CHROM with RMSE 9.92 on PURE, the doubled PhysNet cell on MMPD, and re-quoted numbers say so."""
    flags = {(e.method, e.test, e.source): e.flags for e in FACTS.rows if e.flags}
    slips = [
        e for e in FACTS.rows if e.test == "pure" and e.method == "chrom" and e.values.get("rmse_bpm") == 9.92
    ]
    assert slips and all("misprint" in e.flags for e in slips)
    assert (
        "misprint" in flags["physnet", "mmpd", "rhythmmamba_2"]
        and "misprint" in flags["green", "vipl_hr", "rs_rppg_1"]
    )
    assert "requoted" in flags["gideon2021", "ubfc_rppg_2", "contrastphys_1"]
