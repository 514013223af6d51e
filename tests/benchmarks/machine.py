"""Descriptions of the machine, the versions and the commit, to be saved with measurements."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")
"""CPU flags that matrix products depend on."""

PACKAGES = ("torch", "torchvision", "vanillagan", "pytorch-ignite", "lightning", "torchgan")
"""Packages whose versions are recorded, if they are installed."""


def describe_machine() -> dict[str, Any]:
    """Return the CPU, its cores and flags, the system, and torch's default number of threads."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.+)$", text, re.MULTILINE)
    return {
        "cpu": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "flags": [flag for flag in FLAGS if flags and flag in flags[1].split()],
        "system": platform.platform(),
    }


def describe_versions() -> dict[str, str]:
    """Return the versions of Python and of the installed PACKAGES."""
    installed = {found.name: found.version for found in distributions()}
    found = {package: installed[package] for package in PACKAGES if package in installed}
    return {"python": platform.python_version()} | found


def describe_commit() -> str | None:
    """Return the commit, with "-dirty" if files differ from it; None without git."""
    if shutil.which("git") is None:
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    return done.stdout.strip() or None


def describe_command(module: str) -> str:
    """Return the command that runs a module with this run's arguments."""
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def write_figures(path: Path | None, module: str, figures: Any) -> None:
    """Write measurements and their conditions to a JSON file; do nothing without a path.

    The file holds "figures", "command", "commit", "machine" and "versions". Dataclasses, such as
    `Timing`, become mappings of their fields.
    """
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "command": describe_command(module),
            "commit": describe_commit(),
            "machine": describe_machine(),
            "versions": describe_versions(),
            "figures": figures,
        }
        path.write_text(json.dumps(content, indent=1, default=asdict))
