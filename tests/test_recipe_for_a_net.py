"""Adding a net is one file and one import line; the contract tests then cover it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NET = '''"""A net of a few lines."""

import torch
from torch import Tensor, nn

from nets.registry import NETS
from utils.contracts import InputSpec


@NETS.register("mean_green")
class MeanGreen(nn.Module):
    """One 1x1x1 convolution over the mean colour."""

    task = "pulse"

    def __init__(self, *, bias: bool = True) -> None:
        super().__init__()
        self.input_spec = InputSpec(frames=32, size=16)
        self.mix = nn.Conv3d(3, 1, 1, bias=bias)

    def forward(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, T)."""
        return self.mix(video).mean(dim=(1, 3, 4))
'''


def test_new_net_is_tested_without_writing_a_test(tmp_path: Path) -> None:
    """One file and one import line: the net is in the registry and in the contract tests."""
    copy = tmp_path / "project"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv", ".git", "data", "runs", "__pycache__"))
    (copy / "nets" / "mean_green.py").write_text(NET)
    init = copy / "nets" / "__init__.py"
    init.write_text(init.read_text() + "\nfrom nets import mean_green as mean_green\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/test_nets.py", "-k", "mean_green", "--no-header"],
        cwd=copy, capture_output=True, text=True, timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(done.stdout.rpartition(" passed")[0].split()[-1]) >= 5
