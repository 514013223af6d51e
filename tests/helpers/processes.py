"""Processes that tests start."""

from __future__ import annotations

import os

from tests.helpers.scripts import ROOT


def environment() -> dict[str, str]:
    """Return environment variables under which a new Python imports this package and its tests."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
