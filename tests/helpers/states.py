"""Comparison of nested states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from vanillagan import GANTrainer


def leaves(state: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors and primitives of a nested state, each with its place."""
    if isinstance(state, Mapping):
        for key, value in state.items():
            yield from leaves(value, f"{place}/{key}")
    elif isinstance(state, list | tuple):
        for index, value in enumerate(state):
            yield from leaves(value, f"{place}/{index}")
    else:
        yield place, state


def differences(actual: Any, expected: Any) -> list[str]:
    """The places at which two nested states differ by a bit or more."""
    mine, theirs = dict(leaves(actual)), dict(leaves(expected))
    places = list(mine.keys() ^ theirs.keys())
    for place in mine.keys() & theirs.keys():
        a, b = mine[place], theirs[place]
        same = torch.equal(a, b) and a.dtype == b.dtype if isinstance(a, Tensor) else a == b
        if not same:
            places.append(place)
    return sorted(places)


def plain(state: Any) -> dict[str, Any]:
    """The leaves of a nested state by place, tensors as lists."""
    return {
        place: value.tolist() if isinstance(value, Tensor) else value
        for place, value in leaves(state)
    }


def snapshot(trainer: GANTrainer) -> dict[str, Any]:
    """All of the trainer's state, as places and values."""
    return plain({name: part.state_dict() for name, part in trainer.state_objects().items()})
