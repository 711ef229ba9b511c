"""Fixture writers: small copies of the field's datasets, one file each, found by name."""

from __future__ import annotations

from preprocessing.synthetic.layouts import bp4d as bp4d
from preprocessing.synthetic.layouts import cohface as cohface
from preprocessing.synthetic.layouts import ecg_fitness as ecg_fitness
from preprocessing.synthetic.layouts import folder as folder
from preprocessing.synthetic.layouts import ibvp as ibvp
from preprocessing.synthetic.layouts import lgi_ppgi as lgi_ppgi
from preprocessing.synthetic.layouts import mahnob_hci as mahnob_hci
from preprocessing.synthetic.layouts import mmpd as mmpd
from preprocessing.synthetic.layouts import mr_nirp as mr_nirp
from preprocessing.synthetic.layouts import pure as pure
from preprocessing.synthetic.layouts import scamps as scamps
from preprocessing.synthetic.layouts import ubfc_phys as ubfc_phys
from preprocessing.synthetic.layouts import ubfc_rppg_1 as ubfc_rppg_1
from preprocessing.synthetic.layouts import ubfc_rppg_2 as ubfc_rppg_2
from preprocessing.synthetic.layouts import v4v as v4v
from preprocessing.synthetic.layouts import vipl_hr as vipl_hr
from preprocessing.synthetic.layouts.base import (
    LAYOUTS,
    Layout,
    Take,
    Truth,
    build,
    frame_times,
    make_take,
    names,
    read_truth,
    truth_of,
    write_truth,
)

__all__ = [
    "LAYOUTS", "Layout", "Take", "Truth", "build", "frame_times", "make_take", "names", "read_truth",
    "truth_of", "write_truth",
]
