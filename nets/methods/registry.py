"""The registry of methods."""

from __future__ import annotations

from utils.registry import Registry

METHODS = Registry("method")
