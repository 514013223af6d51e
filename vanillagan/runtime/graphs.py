"""CUDA graphs: whole training steps, recorded once and replayed without Python."""

from __future__ import annotations

import gc
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

from vanillagan.batch import Batch
from vanillagan.errors import stacklevel_of_user
from vanillagan.results import StepResult

if TYPE_CHECKING:
    from vanillagan.player import Player

__all__ = ["StepGraphs", "deferred_to_replay"]

WARM_UP_STEPS = 3
"""Ordinary steps of each kind before it is recorded: they tune kernels and create moments."""

MAX_KINDS = 16
"""Number of kinds of steps after which all are forgotten."""

MAX_UNRECORDED_STEPS = 100
"""Number of steps in a row without a replay after which a warning is raised."""


class CUDAGraphs:
    """CUDA graphs that share their memory, since only one is replayed at a time."""

    device_type = "cuda"

    def __init__(self, device: torch.device, rng: torch.Generator) -> None:
        self._device, self._rng = device, rng
        self._stream = torch.cuda.Stream(device)

    def take_new_memory(self) -> None:
        """Share other memory from now on: PyTorch can't reuse it when all its graphs are gone."""
        self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def warming_up(self) -> Iterator[None]:
        """Run ordinary steps on the stream of the recordings.

        Autograd nodes that outlive a step belong to its stream (pytorch#180090), and so do the
        workspaces of cuBLAS.
        """
        outside = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(outside)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            outside.wait_stream(self._stream)

    @contextmanager
    def recording(self) -> Iterator[Callable[[], None]]:
        """Record what runs inside, without executing it; yield the function that replays it."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device), warnings.catch_warnings():
            # of generators, which newer versions find by themselves, and of graphs without kernels
            warnings.simplefilter("ignore")
            graph.register_generator_state(self._rng)
            gc.collect()  # autograd nodes in cycles may belong to another stream
            outside = torch.cuda.current_stream()
            # threads that pin memory for a DataLoader may go on
            options: Any = {"pool": self._pool, "capture_error_mode": "thread_local"}
            capture = torch.cuda.graph(graph, stream=self._stream, **options)
            capture.__enter__()
            try:
                yield graph.replay
            except BaseException:
                with suppress(RuntimeError):  # that the graph is invalid would hide the cause
                    capture.__exit__(None, None, None)
                raise
            else:
                capture.__exit__(None, None, None)
            finally:
                torch.cuda.set_stream(outside)  # which `torch.cuda.graph` omits after an error


_tape: ContextVar[Tape | None] = ContextVar("tape", default=None)


def deferred_to_replay(call: Callable[..., object], *arguments: Any) -> bool:
    """Return True if a step is being recorded: each replay then makes the call at this point."""
    tape = _tape.get()
    if tape is not None:
        tape.cut(partial(call, *arguments))
    return tape is not None


class Tape:
    """A recorded step: graphs, and the calls between them, which may change gradients."""

    def __init__(
        self,
        graphs: CUDAGraphs,
        step: Callable[[Batch], StepResult],
        batch: Batch,
        weights: Sequence[Tensor],
        after_call: Callable[[], None],
    ) -> None:
        self._graphs, self._weights, self._after_call = graphs, weights, after_call
        # graphs read and write these tensors in place: what a tape refers to is kept alive by it
        self._batch = Batch(*(tensor.clone() for tensor in batch.inputs))
        self._parts: list[Callable[[], object]] = []
        token = _tape.set(self)
        try:
            with ExitStack() as self._open:
                self._begin()
                self._result = step(self._batch)
        finally:
            _tape.reset(token)
        self._parts.append(partial(self._set_gradients, self._gradients()))

    def _begin(self) -> None:
        self._parts.append(self._open.enter_context(self._graphs.recording()))

    def cut(self, call: Callable[[], object]) -> None:
        """End the current graph, note the call, and begin the next graph."""
        self._open.close()
        self._parts.append(partial(self._call, call, self._gradients()))
        self._begin()

    def _gradients(self) -> list[Tensor | None]:
        return [weight.grad for weight in self._weights]

    def _set_gradients(self, gradients: Sequence[Tensor | None]) -> None:
        for weight, gradient in zip(self._weights, gradients, strict=True):
            weight.grad = gradient  # other kinds of steps have theirs elsewhere

    def _call(self, call: Callable[[], object], gradients: Sequence[Tensor | None]) -> None:
        self._set_gradients(gradients)
        call()
        for changed, gradient in zip(self._gradients(), gradients, strict=True):
            if changed is gradient:
                continue
            if changed is None or gradient is None:
                raise RuntimeError(
                    "`on_before_optimizer_step` must not add or remove gradients with "
                    "`cuda_graphs=True`: set them to zeros, or leave out `cuda_graphs=True`"
                )
            gradient.copy_(changed)
        self._set_gradients(gradients)
        self._after_call()

    def replay(self, batch: Batch) -> StepResult:
        """Take the step on another batch of the same shapes."""
        for static, tensor in zip(self._batch.inputs, batch.inputs, strict=True):
            static.copy_(tensor)
        for part in self._parts:
            part()
        steps: Any = [type(step)(*map(_copy, step)) for step in self._result]
        return StepResult(*steps)


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


class Rates:
    """Learning rates as tensors on the device while an optimizer takes a step, for graphs to read.

    Between steps `param_groups` hold numbers, as users, schedulers and checkpoints have them.
    """

    def __init__(self, optimizers: Sequence[Optimizer], device: torch.device) -> None:
        self._optimizers = optimizers
        self._tensors = [torch.zeros((), device=device) for _ in self._groups()]
        self._numbers: list[Any] = [None] * len(self._tensors)
        self._outside: list[Any] = []
        for optimizer in optimizers:
            optimizer.register_step_pre_hook(lambda *_: self._enter())
            optimizer.register_step_post_hook(lambda *_: self.leave())
            for group in optimizer.param_groups:
                if "capturable" in group:
                    group["capturable"] = device.type == "cuda"

    def _groups(self) -> list[tuple[dict[str, Any], bool]]:
        """Return the parameter groups, each with True if its optimizer takes a rate as a tensor."""
        return [
            (group, bool(group.get("fused")) or isinstance(optimizer, Adam | AdamW))
            for optimizer in self._optimizers
            for group in optimizer.param_groups
        ]

    def update(self) -> None:
        """Set the tensors to the current learning rates."""
        for index, (group, _) in enumerate(self._groups()):
            lr = group["lr"]
            if isinstance(lr, Tensor) or lr != self._numbers[index]:
                self._tensors[index].fill_(lr)
                self._numbers[index] = lr

    def _enter(self) -> None:
        if _tape.get() is None:
            self.update()
        groups = self._groups()
        self._outside = [group["lr"] for group, _ in groups]
        for (group, takes_tensor), tensor in zip(groups, self._tensors, strict=True):
            if takes_tensor:
                group["lr"] = tensor

    def leave(self) -> None:
        """Put the numbers back, also after an error in a step."""
        for (group, _), lr in zip(self._groups(), self._outside, strict=False):
            group["lr"] = lr
        self._outside = []

    def settings(self) -> str:
        """Return all settings that a recorded step holds as numbers."""
        return str(
            [
                value
                for group, takes_tensor in self._groups()
                for key, value in group.items()
                if isinstance(value, int | float | tuple | list)
                and key not in ("params", "lr" if takes_tensor else "")
            ]
        )

    def check(self) -> None:
        """Raise a RuntimeError if an optimizer keeps numbers on the host, such as its steps."""
        for optimizer in self._optimizers:
            for weight, state in optimizer.state.items():
                for value in state.values():
                    elsewhere = isinstance(value, Tensor) and value.device != weight.device
                    if elsewhere or isinstance(value, int | float):
                        raise RuntimeError(
                            f"{type(optimizer).__name__} can't be recorded as a CUDA graph, as it "
                            "counts its steps on the host: take an optimizer with `capturable`, "
                            "such as `adam()`, or leave out `cuda_graphs=True`"
                        )


class StepGraphs:
    """Training steps as CUDA graphs, one tape for each kind of step.

    Kinds differ in the shapes of batches, the penalties that are due, settings of optimizers,
    frozen parameters and modes of modules. All else that a step reads in Python is that of the
    recording.

    Args:
        device: Device of the networks.
        rng: Generator that steps draw from beside the device's own.
        players: The players whose weights a step updates.

    Raises:
        ValueError: It is not a CUDA device.
    """

    def __init__(
        self, device: torch.device, rng: torch.Generator, players: Sequence[Player]
    ) -> None:
        if device.type != CUDAGraphs.device_type:
            raise ValueError(
                f"`cuda_graphs` must be False for `device={str(device)!r}`, got True: only CUDA "
                "devices have graphs"
            )
        self._graphs = CUDAGraphs(device, rng)
        self._rates = Rates([player.optimizer for player in players], device)
        self._players = players
        self._steps_since_replay = 0
        self.forget()

    def forget(self) -> None:
        """Record all steps anew, such as when optimizer states have been replaced."""
        self._tapes: dict[Hashable, Tape] = {}
        self._steps: Counter[Hashable] = Counter()
        self._graphs.take_new_memory()
        self._modules = [m for player in self._players for m in player.network.modules()]
        self._weights = [weight for player in self._players for weight in player.parameters]

    def run(
        self, step: Callable[[Batch], StepResult], batch: Batch, due: Hashable = ()
    ) -> StepResult:
        """Take a step: as it is three times, then recorded.

        Args:
            step: Function of the batch, the same in each call.
            batch: Batch on the device.
            due: What the step does apart from the shapes, such as the penalties that are due.

        Raises:
            RuntimeError: The step cannot be recorded; nothing has changed.
        """
        kind: Hashable = (
            due,
            self._rates.settings(),
            # lists: this is done in each step, and generators are slower
            tuple([(tensor.shape, tensor.dtype) for tensor in batch.inputs]),
            tuple([weight.requires_grad for weight in self._weights]),
            tuple([module.training for module in self._modules]),
        )
        try:
            if kind not in self._tapes and self._steps[kind] < WARM_UP_STEPS:
                return self._warm_up(kind, step, batch)
            if kind not in self._tapes:
                self._tapes[kind] = self._record(step, batch)
        finally:
            self._rates.leave()
        self._steps_since_replay = 0
        self._rates.update()
        return self._tapes[kind].replay(batch)

    def _warm_up(
        self, kind: Hashable, step: Callable[[Batch], StepResult], batch: Batch
    ) -> StepResult:
        if kind not in self._steps and len(self._steps) == MAX_KINDS:
            self.forget()
        self._steps[kind] += 1
        self._steps_since_replay += 1
        if self._steps_since_replay == MAX_UNRECORDED_STEPS + 1:
            warnings.warn(
                f"`cuda_graphs=True` has no effect: {MAX_UNRECORDED_STEPS} steps in a row differed "
                "in the shapes of batches or in settings of the optimizers; learning rates may "
                "change with `torch.optim.Adam`, `AdamW` and fused optimizers alone",
                stacklevel=stacklevel_of_user(),
            )
        with self._graphs.warming_up(), warnings.catch_warnings():
            # of `capturable`, which steps of one kind share whether they are recorded or not
            warnings.filterwarnings("ignore", "This instance was constructed with capturable")
            return step(batch)

    def _record(self, step: Callable[[Batch], StepResult], batch: Batch) -> Tape:
        self._rates.check()
        try:
            return Tape(self._graphs, step, batch, self._weights, self._rates.update)
        except RuntimeError as error:
            raise RuntimeError(_explain(error)) from error


def _explain(error: RuntimeError) -> str:
    """Return a message that names the line outside of PyTorch which raised the error."""
    torch_folder = str(Path(torch.__file__).parent)
    frames = traceback.extract_tb(error.__traceback__)
    place = [frame for frame in frames if not frame.filename.startswith(torch_folder)][-1]
    return (
        f"the training step can't be recorded as a CUDA graph: {place.filename}:{place.lineno}, "
        f"`{place.line}`: {error} (a step must neither read values of the device, as `.item()` and "
        "`if tensor:` do, nor copy tensors from the host; change it, or leave out "
        "`cuda_graphs=True`)"
    )
