"""Importing it does what the first run of a process does, such as imports that take seconds.

The server of `tests.faults.kills` imports it, whose processes so start in milliseconds.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # threads for GPUs would not survive a fork

from tests.faults.kills import train

with tempfile.TemporaryDirectory() as name:
    train(Path(name) / "run")
