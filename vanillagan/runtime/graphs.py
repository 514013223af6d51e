"""CUDA graphs: whole training steps, recorded once and replayed without Python."""

from __future__ import annotations

import gc
import traceback
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

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
"""Number of kinds of steps that are remembered; the one that was used last is kept longest."""

MAX_UNRECORDED_STEPS = 100
"""Number of steps in a row without a replay after which a warning is raised."""


class CUDAGraphs:
    """CUDA graphs that share their memory, since only one is replayed at a time.

    Args:
        device: Device to record.
        rng: Generator that steps draw from beside the device's own.
    """

    device_type = "cuda"

    def __init__(self, device: torch.device, rng: torch.Generator) -> None:
        self._device, self._rng = device, rng
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)

    def new(self) -> tuple[AbstractContextManager[None], Callable[[], None]]:
        """Return a context that records what runs inside, without executing it, and its replay."""
        graph = torch.cuda.CUDAGraph()
        with warnings.catch_warnings():  # newer versions of PyTorch find generators by themselves
            warnings.simplefilter("ignore")
            graph.register_generator_state(self._rng)
        return self._recording(graph), graph.replay

    @contextmanager
    def _recording(self, graph: torch.cuda.CUDAGraph) -> Iterator[None]:
        with torch.cuda.device(self._device), warnings.catch_warnings():
            # as between two calls that follow each other
            warnings.filterwarnings("ignore", "The CUDA Graph is empty")
            stream = torch.cuda.current_stream()
            gc.collect()  # autograd nodes in cycles belong to the other stream
            try:
                with torch.cuda.graph(
                    graph,
                    pool=self._pool,
                    stream=self._stream,
                    # threads that pin memory for a DataLoader may go on
                    capture_error_mode="thread_local",
                ):
                    yield
            finally:
                torch.cuda.set_stream(stream)  # which `torch.cuda.graph` leaves out after an error


_tape: ContextVar[Tape | None] = ContextVar("tape", default=None)


def deferred_to_replay(call: Callable[..., object], *arguments: Any) -> bool:
    """Return True if a step is being recorded: each replay then makes the call at this point."""
    tape = _tape.get()
    if tape is not None:
        tape.cut(partial(call, *arguments))
    return tape is not None


class Tape:
    """A recorded step: graphs, and the calls that are made between them.

    Args:
        graphs: Creates the graphs.
        step: Function of a batch.
        batch: Batch of the shapes to record.
        weights: Parameters whose gradients the calls may read and change.
        after_call: Called after each of the calls.
    """

    def __init__(
        self,
        graphs: CUDAGraphs,
        step: Callable[[Batch], StepResult],
        batch: Batch,
        weights: Sequence[Tensor],
        after_call: Callable[[], None],
    ) -> None:
        self._graphs, self._weights, self._after_call = graphs, weights, after_call
        self._batch = Batch(*(tensor.clone() for tensor in batch.inputs))
        self._parts: list[Callable[[], object]] = []
        with self._recording():
            result = step(self._batch)
            fields = [*result.generator, *result.discriminator]
            # scalars apart from large tensors, since the history keeps them for a while
            self._packed = [_pack(fields, scalars=True), _pack(fields, scalars=False)]
        self._parts.append(partial(self._set_gradients, self._gradients()))
        self._size = len(fields)
        self._types = [(type(part), len(part)) for part in result]

    @contextmanager
    def _recording(self) -> Iterator[None]:
        token = _tape.set(self)
        try:
            with ExitStack() as stack:
                self._begin()
                stack.push(lambda *error: self._graph.__exit__(*error))
                yield
        finally:
            _tape.reset(token)

    def _begin(self) -> None:
        self._graph, replay = self._graphs.new()
        self._graph.__enter__()
        self._parts.append(replay)

    def cut(self, call: Callable[[], object]) -> None:
        """End the current graph, note the call, and begin the next graph."""
        self._graph.__exit__(None, None, None)
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
        for weight, gradient in zip(self._weights, gradients, strict=True):
            if weight.grad is gradient:
                continue
            if weight.grad is None or gradient is None:
                raise RuntimeError(
                    "`on_before_optimizer_step` must not add or remove gradients with "
                    "`cuda_graphs=True`: set them to zeros, or leave out `cuda_graphs=True`"
                )
            gradient.copy_(weight.grad)
            weight.grad = gradient
        self._after_call()

    def replay(self, batch: Batch) -> StepResult:
        """Take the step on another batch of the same shapes."""
        for static, tensor in zip(self._batch.inputs, batch.inputs, strict=True):
            static.copy_(tensor)
        for part in self._parts:
            part()
        values: list[Any] = [None] * self._size
        for forms, packed in self._packed:
            parts = packed.clone().split([shape.numel() for _, shape, _ in forms])
            for (index, shape, dtype), part in zip(forms, parts, strict=True):
                values[index] = part.view(shape).to(dtype)
        fields = iter(values)
        steps: Any = [of(*(next(fields) for _ in range(count))) for of, count in self._types]
        return StepResult(*steps)


Form: TypeAlias = tuple[int, torch.Size, torch.dtype]
"""Index of a tensor in the fields of a result, its shape and dtype."""


def _pack(fields: Sequence[Tensor | None], *, scalars: bool) -> tuple[list[Form], Tensor]:
    """Return the scalars or the other tensors as one tensor, which a single kernel copies."""
    chosen = [(i, t) for i, t in enumerate(fields) if t is not None and (t.dim() == 0) == scalars]
    forms = [(index, tensor.shape, tensor.dtype) for index, tensor in chosen]
    dtype = reduce(torch.promote_types, (dtype for _, _, dtype in forms))
    return forms, torch.cat([tensor.detach().to(dtype).flatten() for _, tensor in chosen])


class DeviceRates:
    """Learning rates of an optimizer as tensors on the device, while it takes a step.

    So a graph reads the rate of its step. Between steps `param_groups` hold numbers, as users,
    schedulers and checkpoints have them.

    Args:
        optimizer: Optimizer.
        device: Device of its parameters.
    """

    def __init__(self, optimizer: Optimizer, device: torch.device) -> None:
        self.optimizer = optimizer
        self._kept: list[dict[str, Any]] = []
        self._rates = [torch.zeros((), device=device) for _ in optimizer.param_groups]
        self._values: list[Any] = [None] * len(self._rates)
        self._settings = [
            (group, key)
            for group in optimizer.param_groups
            for key, value in group.items()
            if key != "params"
            and isinstance(value, int | float | tuple | list)
            and not (key == "lr" and self.takes_tensor(group))
        ]
        self._handles = (
            optimizer.register_step_pre_hook(lambda *_: self._enter()),
            optimizer.register_step_post_hook(lambda *_: self.leave()),
        )

    def remove(self) -> None:
        """Leave the optimizer as it was."""
        self.leave()
        for handle in self._handles:
            handle.remove()

    def update(self) -> None:
        """Set the tensors to the current learning rates."""
        for index, group in enumerate(self.optimizer.param_groups):
            lr = group["lr"]
            if isinstance(lr, Tensor) or lr != self._values[index]:
                self._rates[index].fill_(lr)
                self._values[index] = lr

    def takes_tensor(self, group: dict[str, Any]) -> bool:
        """Return True if the optimizer does not read the rate on the host."""
        return bool(group.get("fused")) or isinstance(self.optimizer, Adam | AdamW)

    def _enter(self) -> None:
        if _tape.get() is None:
            self.update()
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            self._kept.append({key: group[key] for key in ("lr", "capturable") if key in group})
            if self.takes_tensor(group):
                group["lr"] = rate
            if "capturable" in group and rate.is_cuda:
                group["capturable"] = True
                for weight in group["params"]:
                    # a checkpoint of steps that were counted on the host
                    state = self.optimizer.state.get(weight, {})
                    if isinstance(state.get("step"), Tensor):
                        state["step"] = state["step"].to(rate.device)

    def leave(self) -> None:
        """Put the numbers back, also after an error in a step."""
        for group, kept in zip(self.optimizer.param_groups, self._kept, strict=False):
            group.update(kept)
        self._kept.clear()

    def settings(self) -> tuple[Hashable, ...]:
        """Return the settings that a recorded step holds as numbers."""
        values = [group[key] for group, key in self._settings]
        return tuple([tuple(value) if isinstance(value, list) else value for value in values])

    def host_state(self) -> list[Any]:
        """Return the numbers that the optimizer keeps on the host, such as a count of steps."""
        return [
            float(value)
            for weight, state in self.optimizer.state.items()
            for value in state.values()
            if isinstance(value, int | float)
            or (isinstance(value, Tensor) and value.device != weight.device and not value.dim())
        ]


@dataclass
class Kind:
    """Steps that differ in nothing but the values of tensors."""

    steps: int = 0
    tape: Tape | None = None


class StepGraphs:
    """Training steps as CUDA graphs, one tape for each kind of step.

    Kinds differ in the shapes of batches, the penalties that are due, settings of optimizers,
    frozen parameters and modes of modules. All else that a step reads in Python is that of the
    recording.

    Args:
        device: Device of the networks.
        rng: Generator that steps draw from beside the device's own.

    Raises:
        ValueError: It is not a CUDA device.
    """

    def __init__(self, device: torch.device, rng: torch.Generator) -> None:
        if device.type != CUDAGraphs.device_type:
            raise ValueError(
                f"`cuda_graphs` must be False for `device={str(device)!r}`, got True: only CUDA "
                "devices have graphs"
            )
        self._device = device
        self._graphs = CUDAGraphs(device, rng)
        self._rates: list[DeviceRates] = []
        self._has_warned = False
        self.forget()

    def forget(self) -> None:
        """Record all steps anew, such as when optimizer states have been replaced."""
        for rates in self._rates:
            rates.remove()
        self._rates = []
        self._kinds: OrderedDict[Hashable, Kind] = OrderedDict()
        self._steps_in_a_row = 0

    def run(
        self,
        step: Callable[[Batch], StepResult],
        batch: Batch,
        players: Sequence[Player],
        due: Hashable,
    ) -> StepResult:
        """Take a step: as it is three times, then recorded.

        Args:
            step: Function of the batch, the same in each call.
            batch: Batch on the device.
            players: The players whose weights the step updates.
            due: What the step does apart from the shapes, such as the penalties that are due.

        Raises:
            RuntimeError: The step cannot be recorded; nothing has changed.
        """
        if not self._rates:
            self._rates = [DeviceRates(player.optimizer, self._device) for player in players]
            self._modules = [m for player in players for m in player.network.modules()]
            self._weights = [weight for player in players for weight in player.parameters]
        kind = self._kind_of(batch, due)
        if kind.tape is None and kind.steps < WARM_UP_STEPS:
            return self._warm_up(kind, step, batch)
        if kind.tape is None:
            kind.tape = self._record(step, batch)
        self._steps_in_a_row = 0
        self._update_rates()
        return kind.tape.replay(batch)

    def _update_rates(self) -> None:
        for rates in self._rates:
            rates.update()

    def _kind_of(self, batch: Batch, due: Hashable) -> Kind:
        key = (
            due,
            tuple([(tensor.shape, tensor.dtype) for tensor in batch.inputs]),
            *[rates.settings() for rates in self._rates],
            # lists: this is called in each step, and generators are slower
            tuple([weight.requires_grad for weight in self._weights]),
            tuple([module.training for module in self._modules]),
        )
        kind = self._kinds.setdefault(key, Kind())
        self._kinds.move_to_end(key)
        if len(self._kinds) > MAX_KINDS:
            self._kinds.popitem(last=False)
        return kind

    def _warm_up(self, kind: Kind, step: Callable[[Batch], StepResult], batch: Batch) -> StepResult:
        kind.steps += 1
        self._steps_in_a_row += 1
        if self._steps_in_a_row > MAX_UNRECORDED_STEPS and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"`cuda_graphs=True` has no effect: {MAX_UNRECORDED_STEPS} steps in a row differed "
                "in the shapes of batches or in settings of the optimizers; learning rates may "
                "change with `torch.optim.Adam`, `AdamW` and fused optimizers alone",
                stacklevel=stacklevel_of_user(),
            )
        self._host_states = [rates.host_state() for rates in self._rates]
        with warnings.catch_warnings():
            # of `capturable`, which steps of one kind share whether they are recorded or not
            warnings.filterwarnings("ignore", "This instance was constructed with capturable")
            try:
                return step(batch)
            finally:
                self._leave()

    def _leave(self) -> None:
        for rates in self._rates:
            rates.leave()

    def _record(self, step: Callable[[Batch], StepResult], batch: Batch) -> Tape:
        for rates, before in zip(self._rates, self._host_states, strict=True):
            if rates.host_state() != before:
                raise RuntimeError(
                    f"{type(rates.optimizer).__name__} can't be recorded as a CUDA graph, as it "
                    "counts its steps on the host: take an optimizer with `capturable`, such as "
                    "`adam()`, or leave out `cuda_graphs=True`"
                )
        try:
            return Tape(self._graphs, step, batch, self._weights, self._update_rates)
        except RuntimeError as error:
            raise RuntimeError(_explain(error)) from error
        finally:
            self._leave()


def _explain(error: BaseException) -> str:
    """Return a message that names the first of the errors, and the line that raised it."""
    while error.__context__ is not None:
        error = error.__context__
    torch_folder = str(Path(torch.__file__).parent)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(torch_folder)]
    place = f"{own[-1].filename}:{own[-1].lineno}, `{own[-1].line}`: " if own else ""
    return (
        f"the training step can't be recorded as a CUDA graph: {place}{error} (a step must neither "
        "read values of the device, as `.item()` and `if tensor:` do, nor copy tensors from the "
        "host; change it, or leave out `cuda_graphs=True`)"
    )
