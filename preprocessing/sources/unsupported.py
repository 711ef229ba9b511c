"""Datasets of the field that cannot be read here, each with the reason, so that nobody looks in vain."""

from __future__ import annotations

_OWN = "write your copy as CSV beside the videos and read it as dataset folder"

UNSUPPORTED = {
    "obf": f"not public (University of Oulu), so its layout could not be checked; {_OWN}",
    "deap": (
        "its .dat files are pickles, which can run code and are not loaded; in the MATLAB version it is not "
        "certain which row belongs to which face video, as trials may be ordered by stimulus or by time, and "
        f"the label of another trial would pass unnoticed; {_OWN}"
    ),
    "mmvs": "not public; its authors (of LFA and REA) describe no file layout",
    "buaa_mihr": f"on request only, and no description of its files could be checked; {_OWN}",
    "rlap": f"on request only, and no description of its files could be checked; {_OWN}",
    "physdrive": f"no description of its files could be checked; {_OWN}",
    "cuffless_bp": "sets for blood pressure without a cuff (such as MIMIC and PulseDB) hold no face videos",
}
