"""Fixtures of every suite: tiny bundles, and real servers in processes of their own."""

from __future__ import annotations

import sys
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parent))
