"""Issues that statistics indicate."""

from __future__ import annotations

import math

import pytest

from vanillagan.callbacks.health.thresholds import DOCS, find_issues

HEALTHY = {
    "discriminator_auc": 0.8,
    "logit_gradient": 0.9,
    "gradient_ratio": 1.0,
    "update_ratio": 1.5,
    "std_ratio": 0.9,
    "nearest_ratio": 0.8,
    "coverage": 0.98,
    "mean_shift": 0.1,
    "net_shift": 0.3,
}


def kinds_of(statistics: dict[str, float]) -> list[str]:
    return [kind for kind, _ in find_issues(HEALTHY | statistics)]


@pytest.mark.parametrize(
    ("statistics", "kind", "words"),
    [
        ({"discriminator_auc": 0.998, "logit_gradient": 0.02}, "saturation", "AUC is 0.998"),
        (
            {"discriminator_auc": 0.95, "gradient_ratio": 0.003},
            "vanishing_gradient",
            "norm is 0.003 of that",
        ),
        ({"std_ratio": 0.03}, "mode_collapse", "is 0.03 of the data's (expected above 0.25)"),
        ({"nearest_ratio": 0.05}, "mode_collapse", "nearest sample is 0.05 of that"),
        ({"coverage": 0.5}, "mode_collapse", "50% of the data has a sample nearby"),
        ({"mean_shift": 2.5}, "oscillation", "shifts by 2.5 times the data's"),
        ({"update_ratio": 0.02}, "imbalance", "0.02 times as much as the generator's"),
        ({"update_ratio": 50.0}, "imbalance", "50 times as much as the generator's"),
    ],
)
def test_a_message_says_observed_expected_and_advice(statistics, kind, words):
    ((found, message),) = find_issues(HEALTHY | statistics)
    assert found == kind
    assert message.startswith(f"{kind.replace('_', ' ')}: ")
    assert words in message
    assert "(expected " in message
    assert ". Try " in message
    assert message.endswith(f"; see {DOCS}")


@pytest.mark.parametrize(
    ("name", "limit", "is_low", "others", "kind"),
    [
        ("discriminator_auc", 0.99, False, {"logit_gradient": 0.05}, "saturation"),
        ("logit_gradient", 0.1, True, {"discriminator_auc": 1.0}, "saturation"),
        ("gradient_ratio", 0.01, True, {"discriminator_auc": 0.95}, "vanishing_gradient"),
        ("discriminator_auc", 0.9, False, {"gradient_ratio": 0.005}, "vanishing_gradient"),
        ("std_ratio", 0.25, True, {}, "mode_collapse"),
        ("nearest_ratio", 0.125, True, {}, "mode_collapse"),
        ("coverage", 0.75, True, {}, "mode_collapse"),
        ("coverage_change", 0.05, True, {"coverage": 0.5}, "mode_collapse"),
        ("mean_shift", 1.0, False, {}, "oscillation"),
        ("net_shift", 0.5, True, {"mean_shift": 1.5}, "oscillation"),
        ("update_ratio", 0.25, True, {}, "imbalance"),
        ("update_ratio", 10.0, False, {}, "imbalance"),
    ],
)
def test_a_statistic_is_an_issue_only_beyond_its_limit(name, limit, is_low, others, kind):
    sign = -1 if is_low else 1
    assert kinds_of(others | {name: limit * (1 + sign / 50)}) == [kind]
    assert kinds_of(others | {name: limit * (1 - sign / 50)}) == []


@pytest.mark.parametrize(
    "statistics",
    [
        {},
        {"discriminator_auc": 1.0},  # with a gradient there is something to learn
        {"logit_gradient": 0.0},
        {"gradient_ratio": 1e-6},  # at an equilibrium
        {"mean_shift": 9.0, "net_shift": 0.9},  # still on a straight path to the data
        {"coverage": 0.1, "coverage_change": 0.1},  # likewise
        {"update_ratio": math.inf},  # a generator that does not train
        dict.fromkeys(HEALTHY, math.nan),
    ],
)
def test_healthy_statistics_are_no_issue(statistics):
    assert kinds_of(statistics) == []


def test_missing_statistics_are_no_issue():
    assert list(find_issues({})) == []


def test_low_coverage_of_a_dominated_generator_is_no_collapse():
    dominated = {"discriminator_auc": 1.0, "logit_gradient": 0.0, "coverage": 0.0}
    assert kinds_of(dominated) == ["saturation"]
    assert kinds_of(dominated | {"std_ratio": 0.01}) == ["saturation", "mode_collapse"]
