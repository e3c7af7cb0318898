"""What is called different is different: planted changes are found, equal models are not told apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tasks import statistics
from tasks.statistics import Groups, Numbers, Verdict, holm

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def alone(differences: Numbers | list[int]) -> Groups:
    """Groups of documents that belong to no other."""
    return np.arange(len(differences))


def interval(differences: list[int]) -> tuple[float, float]:
    return statistics.interval(np.array(differences, float), alone(differences))


def p_value(differences: list[float], groups: list[int] | None = None) -> float:
    told = alone(differences) if groups is None else np.array(groups)
    return statistics.p_value(np.array(differences, float), told)


def test_models_with_equal_answers_differ_by_zero() -> None:
    assert interval([0] * 50) == (0.0, 0.0)


def test_a_planted_gain_has_an_interval_above_zero() -> None:
    low, high = interval([1] * 30 + [0] * 65 + [-1] * 5)
    assert 0 < low < 0.25 < high < 0.5


def test_a_planted_loss_has_an_interval_below_zero() -> None:
    low, high = interval([-1] * 30 + [0] * 65 + [1] * 5)
    assert -0.5 < low < -0.25 < high < 0


def test_more_documents_give_a_narrower_interval() -> None:
    few, many = interval([1, 0, -1] * 10), interval([1, 0, -1] * 100)
    assert many[1] - many[0] < few[1] - few[0]


def test_the_interval_is_the_same_every_time() -> None:
    assert interval([1, 0, -1] * 10) == interval([1, 0, -1] * 10)


def test_the_interval_is_close_to_that_of_the_normal_distribution() -> None:
    differences = [1] * 120 + [0] * 240 + [-1] * 40
    half = 1.96 * np.std(differences) / len(differences) ** 0.5
    assert interval(differences) == pytest.approx((0.2 - half, 0.2 + half), abs=0.01)


def test_copies_of_a_document_tell_no_more_than_the_document() -> None:
    differences = [1] * 14 + [0] * 20 + [-1] * 5
    copies, groups = np.repeat(np.array(differences, float), 4), np.repeat(alone(differences), 4)
    assert statistics.interval(copies, groups) == interval(differences)
    assert statistics.p_value(copies, groups) == pytest.approx(p_value(differences), abs=0.02)
    assert statistics.p_value(copies, alone(copies)) < p_value(differences) / 10


def test_mcnemar_counts_only_documents_that_changed_sides() -> None:
    assert p_value([1] * 9 + [-1] + [0] * 1_000) == pytest.approx(2 * (1 + 10) / 2**10)
    assert p_value([0] * 40) == 1.0


@given(st.integers(0, 6), st.integers(0, 6))
@settings(deadline=None)
def test_flipping_signs_of_single_documents_is_mcnemar_s_test(gained: int, lost: int) -> None:
    flipped = statistics.sign_flip(np.array([1.0] * gained + [-1.0] * lost))
    assert flipped == pytest.approx(statistics.mcnemar(gained, lost))


def test_scores_between_zero_and_one_are_tested_by_flipping_signs() -> None:
    gains = np.random.default_rng(1).normal(0.1, 0.1, 40).tolist()
    assert p_value(gains) < 0.001
    assert p_value([*gains, *(-gain for gain in gains)]) > 0.9


def test_holm_s_correction_is_that_of_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(P_VALUES)
def test_a_correction_lowers_no_p_value_and_keeps_their_order(values: list[float]) -> None:
    corrected = holm(values)
    assert all(raw <= told <= 1 for raw, told in zip(values, corrected, strict=True))
    assert [corrected[place] for place in np.argsort(values, kind="stable")] == sorted(corrected)
    assert min(corrected) == min(1, min(values) * len(values))


@given(st.floats(-1, 1), st.floats(0, 1))
def test_a_verdict_follows_from_the_corrected_p_value_however_large_the_difference(gain: float, p: float) -> None:
    told = statistics.verdict(gain, p)
    assert (told is Verdict.NONE) == (p >= statistics.LEVEL or gain == 0)
    assert told is Verdict.NONE or (told is Verdict.BETTER) == (gain > 0)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.25, 1.0]), st.integers(0, 9)), min_size=1, max_size=80))
@settings(deadline=None)
def test_two_runs_of_the_same_model_are_never_called_different(answers: list[tuple[float, int]]) -> None:
    scores, groups = np.array([score for score, _ in answers]), np.array([group for _, group in answers])
    same = statistics.estimate(scores, scores.copy(), groups)
    assert (same.low, same.high, same.p) == (0, 0, 1)
    assert statistics.verdict(same.after - same.before, same.p) is Verdict.NONE


@pytest.mark.parametrize(("families", "benchmarks", "size"), [(400, 12, 1), (100, 4, 3)])
def test_equal_models_are_seldom_called_different_on_any_benchmark(families: int, benchmarks: int, size: int) -> None:
    rng = np.random.default_rng(17)
    wrong = 0
    for _ in range(families):
        p_values = []
        for _ in range(benchmarks):
            chosen = rng.choice([-1, 0, 1], p=[0.15, 0.7, 0.15], size=60)
            p_values.append(p_value(np.repeat(chosen, size).tolist(), np.repeat(np.arange(60), size).tolist()))
        wrong += min(holm(p_values)) < statistics.LEVEL
    assert wrong / families <= 0.05


def test_without_the_correction_equal_models_would_often_be_called_different() -> None:
    rng = np.random.default_rng(17)
    families = rng.choice([-1, 0, 1], p=[0.15, 0.7, 0.15], size=(100, 12, 150))
    assert np.mean([min(p_value(list(row)) for row in family) < statistics.LEVEL for family in families]) > 0.2


def test_the_mean_of_benchmarks_has_the_interval_of_independent_documents() -> None:
    parts = [(np.array([1, 0, -1, 1, 0] * 40, float), np.arange(200)) for _ in range(4)]
    low, high = statistics.mean_interval(parts)
    half = 1.96 * np.std(parts[0][0]) / 800**0.5
    assert (low, high) == pytest.approx((0.2 - half, 0.2 + half), abs=0.01)


def test_a_large_test_agrees_with_scipy_s_binomial() -> None:
    assert p_value([1] * 80 + [-1] * 40) == pytest.approx(stats.binomtest(80, 120).pvalue)
