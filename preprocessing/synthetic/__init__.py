"""Synthetic recordings: anyone's dataset, with every beat known."""

from preprocessing.synthetic.generate import generate
from preprocessing.synthetic.pulse import LongSignal, Rhythm, long_signal

__all__ = ["LongSignal", "Rhythm", "generate", "long_signal"]
