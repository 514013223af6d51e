"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.helpers.permissions import folder_of_a_user
from vanillagan.runtime import atomic_file
from vanillagan.runtime.atomic_file import warn_if_it_fails, write

fcntl = pytest.importorskip("fcntl")
resource = pytest.importorskip("resource")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def abandoned(folder: Path, number: int = 0) -> Path:
    """A temporary file as a killed process leaves it."""
    path = folder / f".vanillagan-{number:016x}.tmp"
    path.write_bytes(b"half")
    return path


def test_parts_are_written_to_a_new_folder(tmp_path):
    write(tmp_path / "new" / "file", b"one", memoryview(b"two"))
    assert (tmp_path / "new" / "file").read_bytes() == b"onetwo"
    assert names(tmp_path / "new") == ["file"]


def test_a_new_file_has_the_permissions_of_open(tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "file", b"x")
        assert mode_of(tmp_path / "file") == 0o640
    finally:
        os.umask(before)


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_a_replaced_file_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    write(path, b"x")
    assert (mode_of(path), path.read_bytes()) == (mode, b"x")


@pytest.mark.parametrize("protected", ["file", "folder"])
def test_a_protected_file_or_folder_is_left_as_it_is(protected):
    with folder_of_a_user() as folder:
        path = folder / "file"
        path.write_bytes(b"old")
        (path if protected == "file" else folder).chmod(0o555)
        with pytest.raises(PermissionError, match=str(path)):
            write(path, b"new")
        assert path.read_bytes() == b"old"
        assert names(folder) == ["file"]


def test_a_link_stays_and_leads_to_the_new_content(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there" / "file")
    for content in (b"1", b"2"):
        write(link, content)
        assert link.is_symlink()
        assert (tmp_path / "there" / "file").read_bytes() == content
    assert names(tmp_path / "there") == ["file"]


def test_a_link_at_the_temporary_name_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda _: "f" * 16)
    monkeypatch.setattr(atomic_file, "_remove_abandoned", lambda _: None)
    (tmp_path / "victim").write_bytes(b"mine")
    (tmp_path / f".vanillagan-{'f' * 16}.tmp").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError, match=str(tmp_path / "file")):
        write(tmp_path / "file", b"x")
    assert (tmp_path / "victim").read_bytes() == b"mine"


@pytest.mark.parametrize("length", [253, 255])
def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path, length):
    write(tmp_path / ("x" * length), b"1")
    assert names(tmp_path) == ["x" * length]
    with pytest.raises(OSError, match="x" * 256):
        write(tmp_path / ("x" * 256), b"1")


def test_threads_that_write_one_file_lose_nothing(tmp_path):
    path = tmp_path / "file"
    contents = [bytes([number]) * 50_000 for number in range(4)]
    errors: list[Exception] = []

    def write_often(content: bytes) -> None:
        try:
            for _ in range(25):
                write(path, content)
                assert path.read_bytes() in contents
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write_often, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert names(tmp_path) == ["file"]


def test_temporary_files_of_killed_processes_are_removed(tmp_path):
    others = [".vanillagan-1.tmp", ".run.pt.123.tmp", "vanillagan-0000000000000000.tmp"]
    for name in others:
        (tmp_path / name).touch()
    abandoned(tmp_path)
    alive = abandoned(tmp_path, 1)
    with alive.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as the process that writes it has it
        write(tmp_path / "file", b"x")
        assert names(tmp_path) == sorted([*others, alive.name, "file"])
    write(tmp_path / "file", b"x")
    assert names(tmp_path) == sorted([*others, "file"])


def test_a_temporary_file_that_is_removed_before_it_is_locked_is_created_again(
    tmp_path, monkeypatch
):
    lock, removed = fcntl.flock, []

    def remove_once(file, flags):
        if not removed:
            removed.extend(tmp_path.glob("*.tmp"))
            removed[0].unlink()
        lock(file, flags)

    monkeypatch.setattr(fcntl, "flock", remove_once)
    write(tmp_path / "file", b"x")
    assert len(removed) == 1
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_file_system_without_locks_is_written_to(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    left = abandoned(tmp_path)
    write(tmp_path / "file", b"x")
    assert names(tmp_path) == [left.name, "file"]


def test_without_fcntl_as_on_windows(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic_file, "fcntl", None)
    abandoned(tmp_path)
    for content in (b"1", b"2"):
        write(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_write_changes_nothing(tmp_path, monkeypatch, error):
    def fail(_):
        raise error

    path = tmp_path / "file"
    write(path, b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)) as raised:
        write(path, b"new")
    assert isinstance(error, KeyboardInterrupt) or str(path) in str(raised.value)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_file_that_cannot_be_written_is_warned_of_or_an_error_by_choice(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "x"
    with pytest.warns(UserWarning, match=f"not written: {path}: "):
        assert not warn_if_it_fails(lambda: write(path, b"x"), path)
    assert warn_if_it_fails(lambda: write(tmp_path / "y", b"x"), tmp_path / "y")
