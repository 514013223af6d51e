"""Fixtures of the tests of metrics."""

from __future__ import annotations

import pytest

from vanillagan.metrics import distances


@pytest.fixture(params=[2**22, 500], ids=["one-block", "many-blocks"])
def block_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Set the number of pairs in a block: all of them, or a few."""
    monkeypatch.setattr(distances, "BLOCK", request.param)
    return request.param
