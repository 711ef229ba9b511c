"""report.html and figures/ of a run folder, made from the files of that folder alone."""

from evaluation.report.files import Curves, read_curves
from evaluation.report.page import write_report

__all__ = ["Curves", "read_curves", "write_report"]
