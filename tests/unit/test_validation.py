"""Checks of arguments and tensors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from vanillagan import validation
from vanillagan.validation import (
    check_every,
    check_labels,
    check_path,
    check_seed,
    check_size,
    is_finite,
)

NOT_FINITE = "`x` must be finite{}, got NaN or infinite values"


@pytest.mark.parametrize(
    ("check", "value", "options", "error", "message"),
    [
        ("integer", 0, {"minimum": 1}, ValueError, "`x` must be a positive integer, got 0"),
        ("integer", -1, {"minimum": 0}, ValueError, "`x` must be a non-negative integer, got -1"),
        ("integer", 1, {"minimum": 2}, ValueError, "`x` must be an integer of at least 2, got 1"),
        (
            "integer",
            9,
            {"minimum": 0, "maximum": 8},
            ValueError,
            "`x` must be at most 8, got 9",
        ),
        ("integer", 2.0, {"minimum": 1}, TypeError, "`x` must be a positive integer, got 2.0"),
        ("integer", True, {"minimum": 1}, TypeError, "`x` must be a positive integer, got True"),
        ("integer", "3", {"minimum": 1}, TypeError, "`x` must be a positive integer, got '3'"),
        (
            "integer",
            2**63,
            {"minimum": 1},
            ValueError,
            f"`x` must be at most {2**63 - 1}, got {2**63}",
        ),
        ("bool", "no", {}, TypeError, "`x` must be True or False, got 'no'"),
        ("bool", 1, {}, TypeError, "`x` must be True or False, got 1"),
        (
            "float_tensor",
            torch.eye(2).to_sparse(),
            {},
            TypeError,
            "`x` must be a dense tensor, got torch.sparse_coo",
        ),
        (
            "finite",
            torch.zeros(2, device="meta"),
            {},
            ValueError,
            "`x` must be a tensor with values, got one on the device meta",
        ),
        (
            "number",
            10**400,
            {},
            ValueError,
            f"`x` must be a finite number in (-inf, inf), got 1{'0' * 76}...",
        ),
        ("integer", None, {"minimum": 1}, TypeError, "`x` must be a positive integer, got None"),
        ("integers", 3, {}, TypeError, "`x` must be a tuple of positive integers, got 3"),
        ("integers", "12", {}, TypeError, "`x` must be a tuple of positive integers, got '12'"),
        ("integers", (), {}, ValueError, "`x` must have at least one entry, got ()"),
        ("integers", (3, 0), {}, ValueError, "`x[1]` must be a positive integer, got 0"),
        ("integers", (3.0,), {}, TypeError, "`x[0]` must be a positive integer, got 3.0"),
        (
            "number",
            -1,
            {"minimum": 0},
            ValueError,
            "`x` must be a finite number in [0, inf), got -1",
        ),
        ("number", math.nan, {}, ValueError, "`x` must be a finite number in (-inf, inf), got nan"),
        ("number", math.inf, {}, ValueError, "`x` must be a finite number in (-inf, inf), got inf"),
        (
            "number",
            1.0,
            {"minimum": 0, "maximum": 1, "exclude_maximum": True},
            ValueError,
            "`x` must be a finite number in [0, 1), got 1.0",
        ),
        (
            "number",
            0,
            {"minimum": 0, "maximum": 1, "exclude_minimum": True},
            ValueError,
            "`x` must be a finite number in (0, 1], got 0",
        ),
        (
            "number",
            "1",
            {"minimum": 0},
            TypeError,
            "`x` must be a finite number in [0, inf), got '1'",
        ),
        (
            "number",
            True,
            {"minimum": 0},
            TypeError,
            "`x` must be a finite number in [0, inf), got True",
        ),
        (
            "choice",
            "c",
            {"choices": ("a", "b")},
            ValueError,
            "`x` must be one of 'a', 'b', got 'c'",
        ),
        (
            "choice",
            True,
            {"choices": ("a",)},
            ValueError,
            "`x` must be one of 'a', got True",
        ),
        ("choice", None, {"choices": (1, 2)}, ValueError, "`x` must be one of 1, 2, got None"),
        ("finite", torch.tensor([1.0, math.nan]), {}, ValueError, NOT_FINITE.format("")),
        (
            "finite",
            torch.tensor([math.inf]),
            {"where": " in 'a'"},
            ValueError,
            NOT_FINITE.format(" in 'a'"),
        ),
        (
            "float_tensor",
            torch.zeros(2).long(),
            {},
            TypeError,
            "`x` must be a tensor of floats, got torch.int64",
        ),
        ("float_tensor", [0.5], {"expected": "images"}, TypeError, "`x` must be images, got list"),
        (
            "integer_tensor",
            torch.zeros(2),
            {},
            TypeError,
            "`x` must be a tensor of integers, got torch.float32",
        ),
        (
            "integer_tensor",
            torch.zeros(2) > 0,
            {},
            TypeError,
            "`x` must be a tensor of integers, got torch.bool",
        ),
        (
            "integer_tensor",
            torch.zeros(2) + 1j,
            {},
            TypeError,
            "`x` must be a tensor of integers, got torch.complex64",
        ),
        ("integer_tensor", 3, {}, TypeError, "`x` must be a tensor of integers, got int"),
        (
            "shape",
            torch.zeros(2, 3),
            {"shape": (4,)},
            ValueError,
            "`x` must have the shape (N, 4), got (2, 3)",
        ),
        (
            "shape",
            torch.zeros(()),
            {"shape": ()},
            ValueError,
            "`x` must have the shape (N), got ()",
        ),
        ("shape", [0.0], {"shape": ()}, TypeError, "`x` must be a tensor of floats, got list"),
        (
            "type",
            3,
            {"expected_type": str, "expected": "a name"},
            TypeError,
            "`x` must be a name, got 3",
        ),
        (
            "type",
            str,
            {"expected_type": object, "expected": "a name"},
            TypeError,
            "`x` must be a name, got <class 'str'>",
        ),
    ],
)
def test_a_check_names_argument_expectation_and_value(
    check: str, value: Any, options: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error) as caught:
        getattr(validation, f"check_{check}")("x", value, **options)
    assert str(caught.value) == message


def test_an_integer_that_is_too_long_to_print_is_refused():
    with pytest.raises(ValueError, match=r"`x` must be at most .* got an object of int$"):
        validation.check_integer("x", 10**5000, minimum=1)


@pytest.mark.parametrize(
    ("check", "value", "options", "result"),
    [
        ("integer", 3, {"minimum": 3}, 3),
        ("integer", 8, {"minimum": 0, "maximum": 8}, 8),
        ("integers", (), {"allow_empty": True}, ()),
        ("integers", [3, 1], {}, (3, 1)),
        ("number", 1, {"minimum": 0, "maximum": 1}, 1.0),
        ("number", 0.5, {}, 0.5),
        ("choice", "b", {"choices": ("a", "b")}, "b"),
    ],
)
def test_a_check_returns_the_value_in_its_type(check, value, options, result):
    checked = getattr(validation, f"check_{check}")("x", value, **options)
    assert checked == result
    assert type(checked) is type(result)


@pytest.mark.parametrize(
    ("check", "value", "options"),
    [
        ("finite", torch.tensor([1.0, -2.0]), {}),
        ("finite", torch.tensor([1, 2]), {}),
        ("float_tensor", torch.zeros(2).bfloat16(), {}),
        ("integer_tensor", torch.zeros(2, dtype=torch.uint8), {}),
        ("shape", torch.zeros(5, 2, 3), {"shape": (2, 3)}),
        ("shape", torch.zeros(0), {"shape": ()}),
        ("type", "a", {"expected_type": str, "expected": "a name"}),
    ],
)
def test_a_check_accepts_valid_values(check, value, options):
    assert getattr(validation, f"check_{check}")("x", value, **options) is None


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_seeds_that_every_generator_takes(seed):
    assert check_seed(seed) == seed
    torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("seed", "message"), [(-1, "non-negative integer"), (2**63, "at most 9223372036854775807")]
)
def test_a_seed_out_of_range_is_named(seed, message):
    with pytest.raises(ValueError, match=f"`seed` must be .*{message}"):
        check_seed(seed)


@pytest.mark.parametrize(("size", "pair"), [(3, (3, 3)), ((2, 5), (2, 5)), ([7, 1], (7, 1))])
def test_a_size_is_a_number_or_a_pair(size, pair):
    assert check_size(size) == pair


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (0, ValueError, "`size` must be a positive integer, got 0"),
        ((2, 0), ValueError, r"`size\[1\]` must be a positive integer, got 0"),
        ((1, 2, 3), ValueError, r"`size` must be a number or \(height, width\), got \(1, 2, 3\)"),
        (2.5, TypeError, "`size` must be a positive integer, got 2.5"),
    ],
)
def test_an_invalid_size_is_named(size, error, message):
    with pytest.raises(error, match=message):
        check_size(size)


@pytest.mark.parametrize("interval", [(5, None), (None, 1)])
def test_an_interval_counts_steps_or_epochs(interval):
    check_every(*interval)


@pytest.mark.parametrize(
    ("interval", "error", "message"),
    [
        ((None, None), ValueError, "`every_n_steps` or `every_n_epochs` must be given.* None and"),
        ((1, 1), ValueError, "only one of them, got 1 and 1"),
        ((0, None), ValueError, "`every_n_steps` must be a positive integer, got 0"),
        ((None, 1.5), TypeError, "`every_n_epochs` must be a positive integer, got 1.5"),
    ],
)
def test_an_invalid_interval_is_named(interval, error, message):
    with pytest.raises(error, match=message):
        check_every(*interval)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_not_finite_is_found(dtype, value):
    tensor = torch.zeros(3, 50, dtype=dtype)
    assert is_finite(tensor)
    tensor[1, 20] = value
    assert not is_finite(tensor)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_sum_that_overflows_is_finite(dtype):
    assert is_finite(torch.full((4,), torch.finfo(dtype).max, dtype=dtype))


def test_infinities_of_both_signs_are_not_finite():
    assert not is_finite(torch.tensor([math.inf, -math.inf]))


def test_no_labels_fit_no_samples():
    check_labels(torch.zeros(0, dtype=torch.long), 3, 0)


def test_labels_on_other_devices_are_not_read():
    check_labels(torch.zeros(2, dtype=torch.long, device="meta"), 3, 2)


def test_a_path_may_be_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert check_path("path", "~/x.pt") == tmp_path / "x.pt"
    assert check_path("path", Path("~") / "x~") == tmp_path / "x~"
    assert check_path("path", "a/~") == Path("a/~")
    assert check_path("path", "~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")


@pytest.mark.parametrize(
    ("path", "error"), [(3, TypeError), (b"x", TypeError), ("", ValueError), ("a\0b", ValueError)]
)
def test_what_is_no_path_is_refused(path, error):
    with pytest.raises(error, match="`path` must be a path, got "):
        check_path("path", path)


@pytest.mark.parametrize("path", [".", "..", "/", "a/", "a/.", "a/..", "/dev/null", Path("..")])
def test_a_file_is_no_folder_and_no_device(path):
    with pytest.raises(ValueError, match="`path` must be a file, not a folder or device, got '"):
        check_path("path", path, file=True)
    assert check_path("path", "a/b", file=True) == Path("a/b")
