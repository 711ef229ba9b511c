"""The registry of nets."""

from __future__ import annotations

from utils.registry import Registry

NETS = Registry("net")
