"""Permissions of an ordinary user, also where the tests run as root."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["folder_of_a_user"]

NOBODY = 65534


@contextmanager
def folder_of_a_user() -> Iterator[Path]:
    """A new folder, in which this process has the permissions of an ordinary user."""
    folder = Path(tempfile.mkdtemp())
    user = os.geteuid()
    try:
        if user == 0:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        yield folder
    finally:
        os.seteuid(user)
        for part in (folder, *folder.rglob("*")):
            part.chmod(0o700)
        shutil.rmtree(folder)
