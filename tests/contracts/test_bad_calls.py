"""Every public name has a valid call, from which bad ones are made."""

from __future__ import annotations

import warnings

import pytest

from tests.helpers.public_calls import calls, public_names


def test_every_public_constructor_and_function_has_a_call():
    missing = public_names() - calls().keys()
    assert not missing, f"add valid calls of {sorted(missing)} to tests/helpers/public_calls.py"


@pytest.mark.parametrize("name", calls())
def test_the_call_is_valid(name):
    function, arguments = calls()[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function(**arguments)
