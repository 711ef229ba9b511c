"""Opening pages in a real browser, without a window and without a network of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def opened(page: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Chromium at the address `page`, with its profile in `folder`; stdout is the page after its scripts."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("no Chromium here to open the page in")
    return subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", *options,
         f"--user-data-dir={folder}", "--enable-logging=stderr", "--v=0", "--dump-dom", page],
        capture_output=True, text=True, timeout=120, check=False)


def in_chromium(page: str, folder: Path, *options: str) -> tuple[str, list[str]]:
    """The page after its scripts ran, and the lines of the browser's console."""
    done = opened(page, folder, *options)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
