"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from vanillagan.errors import stacklevel_of_user

try:
    import fcntl
except ImportError:  # Windows, which neither removes nor replaces a file that is open
    fcntl = None  # type: ignore[assignment]

__all__ = ["warn_if_it_fails", "write"]


def write(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file whole, or leave what is there as it was; create missing folders.

    A temporary file in the same folder is flushed to the disk and renamed; those of killed
    processes are removed. As with `open`, a file that is replaced must be writable and keeps its
    mode, and a symbolic link stays: the file that it points to is replaced.

    Raises:
        OSError: The file cannot be written; the error names `path`.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".vanillagan-{secrets.token_hex(8)}.tmp")
    try:
        _remove_abandoned(target.parent)
        if exists := target.exists():
            target.open("r+b").close()  # permissions do not protect it from being renamed over
        with _create(temporary) as file:
            if exists:
                shutil.copymode(target, temporary)
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())  # before the rename, or a power failure may leave an empty file
            if fcntl is None:
                file.close()
            temporary.replace(target)  # while it is locked
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):  # on a full disk it names no file, or the temporary one
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def warn_if_it_fails(
    write: Callable[[], object], path: Path, *, must_succeed: bool = False
) -> bool:
    """Write a file; return False, with a warning, if that fails: a full disk ends no long run."""
    try:
        write()
    except OSError as error:
        if must_succeed:
            raise
        message = f"not written: {path}: {error.strerror or error}"
        warnings.warn(message, stacklevel=stacklevel_of_user())
        return False
    return True


def _create(temporary: Path) -> BinaryIO:
    """Create a file and lock it until it is closed: that of a killed process is not locked."""
    while True:
        file = temporary.open("xb")  # not through a link that someone has put there
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks, where none is removed
                fcntl.flock(file, fcntl.LOCK_EX)
        if temporary.exists():
            return file
        file.close()  # another process has removed it before it was locked


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob(f".vanillagan-{16 * '?'}.tmp"):
        with suppress(OSError), path.open("r+b") as file:  # an error: it is locked
            if fcntl is None:
                file.close()
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
