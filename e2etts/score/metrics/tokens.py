"""Speech tokens of the clips by a system's tokenizer (metric tokens): entropy, neighbours."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from e2etts.score.config import ScoreConfig
from e2etts.score.judges.locate import Unavailable
from e2etts.score.judges.trained_system import FORM, SystemMeter, TrainedSystem, encoder
from e2etts.score.meter import Measure, each, pack, unpack
from e2etts.score.score_run import ClipScore, ScoreRun
from e2etts.score.token_statistics import (
    corrected_information_bits,
    entropy_bits,
    neighbours,
)

TOKEN = "<i4"


def statistics(clips: list[np.ndarray]) -> dict[str, float]:
    """Of token rows (T,): unigram entropy in bits, distinct tokens, mutual information of
    neighbours in bits (see ``corrected_information_bits``), share of tokens like the one before."""
    tokens = np.concatenate(clips)
    first, second = neighbours(clips)
    out = {"tokens": len(tokens), "distinct": len(np.unique(tokens)),
           "entropy_bits": entropy_bits(np.bincount(tokens))}
    if len(first):
        out |= corrected_information_bits(first, second)
        out["repeated"] = float((first == second).mean())
    return out


@dataclass(frozen=True)
class TokenMeter(SystemMeter):
    """The speech tokens of a wav, packed."""

    name: str = "tokens"

    def key(self, lang: str) -> str:
        return f"tokens {self.system.identity}"

    def open(self, device: str) -> Measure:
        encode = encoder(self.system.load(device))

        def measure(path: Path, lang: str) -> str:
            return pack(encode(path).numpy(), TOKEN)

        return each(measure)


def score_tokens(run: ScoreRun) -> None:
    """Fill ``tokens``. Raises Unavailable where no system is configured."""
    where = run.config.models.get("system")
    if where is None:
        raise Unavailable("no system is configured", f"score.models.system=WHERE, {FORM}")
    system = TrainedSystem.at(where)
    run.models["tokens"] = {"name": "speech tokens", "source": system.checkpoint,
                            "model_sha256": system.identity}
    for s, packed in run.measure(TokenMeter(system), run.good(), "tokens"):
        s.values["tokens"] = packed


def summarise_tokens(some: list[ClipScore], config: ScoreConfig) -> dict[str, Any] | None:
    """Statistics of the whole set."""
    rows = [unpack(s.values["tokens"], TOKEN) for s in some if "tokens" in s.values]
    if not rows:
        return None
    return {**statistics(rows), "scored": len(rows), "expected": len(some)}
