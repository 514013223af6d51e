"""Processes that tests start."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.scripts import ROOT

PRELOADED = ["vanillagan", "vanillagan.callbacks", "torch.distributed"]


def environment() -> dict[str, str]:
    """Return environment variables under which a new Python imports this package and its tests."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


@dataclass
class Ended:
    """How a rank ended.

    Attributes:
        value: What its function returned; None if it raised or was killed.
        error: Type and text of its exception; empty without one.
        code: Exit status; minus the number of the signal that killed it, None if it still ran.
        at: Time of its end, as `time.time` gives it.
    """

    value: Any
    error: str
    code: int | None
    at: float


def run_ranks(
    function: Callable[..., Any],
    *arguments: Any,
    world_size: int = 2,
    method: str = "forkserver",
    seconds: float = 60.0,
) -> list[Ended]:
    """Call `function(rank, *arguments)` in several processes, as if by `torchrun`.

    Args:
        function: Function of a module, which every process imports.
        arguments: Its further arguments.
        world_size: Number of processes.
        method: "forkserver", where a process starts in 0.1 s, or "spawn".
        seconds: Time after which processes that still run are killed.
    """
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([*PRELOADED, function.__module__])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": world_size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, str(rank)) for rank in range(world_size)]
        processes = [
            context.Process(
                target=_run_rank, args=(function, arguments, file, {**shared, "RANK": rank})
            )
            for rank, file in enumerate(files)
        ]
        for process in processes:
            process.start()
        codes = _wait(processes, time.monotonic() + seconds)
        return [_ended(file, code) for file, code in zip(files, codes, strict=True)]


def _wait(processes: list[Any], until: float) -> list[int | None]:
    """Wait for the last process first, so that others that are killed meanwhile are zombies."""
    for process in reversed(processes):
        process.join(max(0.0, until - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return codes


def _ended(file: Path, code: int | None) -> Ended:
    if not file.is_file():
        return Ended(None, "", code, time.time())
    value, error, at = pickle.loads(file.read_bytes())
    return Ended(value, error, code, at)


def _run_rank(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    file: Path,
    variables: Mapping[str, Any],
) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ.update({name: str(value) for name, value in variables.items()})
    value, error = None, ""
    try:
        value = function(variables["RANK"], *arguments)
    except BaseException as raised:
        error = f"{type(raised).__name__}: {raised}"
        raise
    finally:
        file.write_bytes(pickle.dumps((value, error, time.time())))
