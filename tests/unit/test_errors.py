"""The library's exceptions, and optional packages."""

from __future__ import annotations

import pytest

from vanillagan import errors


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.CheckpointError, ValueError),
        (errors.DivergenceError, ArithmeticError),
        (errors.MissingExtraError, ImportError),
    ],
)
def test_errors_have_a_builtin_base_class(error, builtin):
    assert issubclass(error, errors.VanillaGANError)
    assert issubclass(error, builtin)


def test_a_missing_extra_is_named_with_its_command():
    with pytest.raises(errors.MissingExtraError) as caught:
        errors.require("no_such_package.part", extra="progress", user="ProgressBar")
    assert str(caught.value) == (
        "ProgressBar needs the package 'no_such_package': pip install 'vanillagan[progress]'"
    )
    assert errors.require("os.path", extra="progress", user="ProgressBar").basename("a/b") == "b"
