"""Statistics of speech tokens: entropy, mutual information of neighbours, use of the codebook."""

from collections.abc import Sequence
from typing import Any

import numpy as np

COVERAGE_POINTS = 20


def entropy_bits(counts: np.ndarray) -> float:
    """Plug-in entropy, in bits, of counts (V,)."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())


def mutual_information_bits(first: np.ndarray, second: np.ndarray) -> float:
    """Plug-in mutual information, in bits, of pairs of symbols (n,) and (n,)."""
    def entropy(values: np.ndarray) -> float:
        return entropy_bits(np.unique(values, return_counts=True)[1])

    pairs = first.astype(np.int64) * (int(second.max()) + 1) + second
    return entropy(first) + entropy(second) - entropy(pairs)


def neighbours(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (n,) and those that follow them (n,), within rows (T,)."""
    first, second = (np.concatenate([r[cut] for r in rows]) for cut in (slice(-1), slice(1, None)))
    return first, second


def corrected_information_bits(first: np.ndarray, second: np.ndarray, *, shuffles: int = 4,
                               seed: int = 0) -> dict[str, float]:
    """Mutual information of pairs, in bits, without the bias of few pairs.

    The plug-in estimate is too high by up to (V-1)^2 / (2 N ln 2) bits, so the
    estimate from the same pairs with shuffled second symbols, where the true value is zero, is
    subtracted; the result is comparable between tokenizers at equal N only.
    """
    random = np.random.default_rng(seed)
    plug_in = mutual_information_bits(first, second)
    by_chance = float(np.mean([mutual_information_bits(first, random.permutation(second))
                               for _ in range(shuffles)]))
    return {"mutual_information_bits": plug_in - by_chance,
            "mutual_information_plug_in_bits": plug_in,
            "mutual_information_shuffled_bits": by_chance}


def token_statistics(rows: Sequence[np.ndarray], codebook_size: int, *, shuffles: int = 4,
                     seed: int = 0) -> dict[str, Any]:
    """Of token rows (T,), one an utterance: entropy H(X_n) and mutual information I(X_n+1; X_n).

    Pairs never cross utterances; see ``corrected_information_bits``.
    coverage: share of all tokens that the most used 5, 10, ... 100 % of codes make up.
    Raises ValueError where no row has two tokens.
    """
    tokens = np.concatenate(rows)
    first, second = neighbours(rows)
    if not len(first):
        raise ValueError("no utterance has two tokens")
    counts = np.bincount(tokens, minlength=codebook_size)
    shares = np.cumsum(np.sort(counts)[::-1]) / counts.sum()
    ends = np.linspace(0, codebook_size, COVERAGE_POINTS + 1)[1:].round().astype(int) - 1
    return {"tokens": len(tokens), "codebook_size": codebook_size,
            "used_share": float((counts > 0).mean()), "entropy_bits": entropy_bits(counts),
            **corrected_information_bits(first, second, shuffles=shuffles, seed=seed),
            "coverage": shares[ends.clip(0)].round(4).tolist()}
