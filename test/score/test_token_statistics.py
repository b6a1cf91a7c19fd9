import numpy as np
import pytest

from e2etts.score.token_statistics import entropy_bits, mutual_information_bits, token_statistics


def markov_chain(transition: np.ndarray, lengths: list[int], seed: int = 0) -> list[np.ndarray]:
    """Rows of a chain that starts in its stationary distribution, which must be even."""
    random, size = np.random.default_rng(seed), len(transition)
    steps = transition.cumsum(1)
    rows = []
    for length in lengths:
        row = [random.integers(size)]
        for u in random.random(length - 1):
            row.append(int(np.searchsorted(steps[row[-1]], u)))
        rows.append(np.array(row))
    return rows


def test_worked_example():
    assert entropy_bits(np.array([2, 1, 1, 0])) == 1.5
    x = np.array([0, 0, 1, 1])
    assert mutual_information_bits(x, x) == 1.0
    assert mutual_information_bits(x, np.array([0, 1, 0, 1])) == pytest.approx(0.0)


def test_estimate_on_a_known_markov_chain():
    # With chance 0.6 to the next symbol of 40, else to any: a doubly stochastic matrix.
    size, go = 40, 0.6
    transition = np.full((size, size), (1 - go) / size) + go * np.roll(np.eye(size), 1, axis=1)
    p = transition[0]
    true = np.log2(size) + float((p * np.log2(p)).sum())
    found = token_statistics(markov_chain(transition, [50] * 60), size)
    plug_in = found["mutual_information_plug_in_bits"]
    assert found["tokens"] == 3000
    assert plug_in - true > 0.2  # what the correction is for
    assert abs(found["mutual_information_bits"] - true) < (plug_in - true) / 2
    assert found["entropy_bits"] == pytest.approx(np.log2(size), abs=0.03)


def test_independent_tokens_share_nothing_and_pairs_stay_within_utterances():
    random = np.random.default_rng(0)
    rows = [random.integers(0, 30, 20) for _ in range(100)]
    found = token_statistics(rows, 30)
    assert abs(found["mutual_information_bits"]) < 0.03
    assert found["mutual_information_plug_in_bits"] > 0.2
    # Each row repeats one symbol: within it the next is known; across rows it would not be.
    rows = [np.full(2, i) for i in range(8)]
    found = token_statistics(rows, 16)
    assert found["mutual_information_plug_in_bits"] == pytest.approx(3.0)
    assert found["used_share"] == 0.5
    assert found["coverage"][9:] == [1.0] * 11 and found["coverage"][4] == 0.5
    with pytest.raises(ValueError, match="two tokens"):
        token_statistics([np.array([1]), np.array([2])], 4)
