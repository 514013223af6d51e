"""Runs the tests of `pretended_device.py` in a process of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest
from torch.utils import backend_registration

from tests.helpers.scripts import ROOT


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this version of PyTorch has no devices in Python",
)
def test_the_library_keeps_the_rules_of_a_device():
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    tests = "tests/integration/pretended_device.py"
    run = subprocess.run([*command, tests], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stdout + run.stderr
