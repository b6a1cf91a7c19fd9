"""Speech in voices that training does not have, beside the training voices."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from e2etts.data.datadir import read_table
from e2etts.score.config import ScoreConfig
from e2etts.score.error_rates import mean_interval
from e2etts.score.score_run import ClipScore

MOST_VOICES = 12  # of a set whose voices have figures of their own
# Of the training voices, for each and for all of them (at least one for each).
RECORDINGS_PER_VOICE, RECORDINGS = 20, 1000


def training_voices(dump_set: Path) -> dict[str, list[Path]]:
    """Voice -> some recordings, evenly spread, of a prepared set."""
    wavs, of_voice = read_table(dump_set / "wav.scp"), {}
    for utt, voice in read_table(dump_set / "utt2spk").items():
        of_voice.setdefault(voice, []).append(Path(wavs[utt]))
    most = max(1, min(RECORDINGS_PER_VOICE, RECORDINGS // len(of_voice)))
    return {voice: paths[:: -(-len(paths) // most)] for voice, paths in sorted(of_voice.items())}


def by_unseen_voice(scores: Iterable[ClipScore]
                    ) -> dict[str, dict[str, dict[str, list[ClipScore]]]]:
    """Set -> system -> voice -> clips, of clips of unseen voices: "all" of them together, then,
    where a set has few, each."""
    unseen = [s for s in scores if s.clip.unseen]
    voices: dict[str, set[str]] = {}
    for s in unseen:
        voices.setdefault(s.clip.set, set()).add(s.clip.speaker)
    sets: dict[str, dict[str, dict[str, list[ClipScore]]]] = {}
    for s in unseen:
        each = [s.clip.speaker] if 1 < len(voices[s.clip.set]) <= MOST_VOICES else []
        of = sets.setdefault(s.clip.set, {}).setdefault(s.clip.system, {})
        for voice in ("all", *each):
            of.setdefault(voice, []).append(s)
    return sets


def nearest_voices(some: list[ClipScore], config: ScoreConfig) -> dict[str, Any]:
    """Clips of unseen voices beside the training voices: mean similarity to the nearest one of each
    clip, the share of clips that are more similar to their own voice than to any of these, both
    with their 95 % intervals, and how often which one is the nearest. Empty where unknown."""
    found = [s for s in some if s.nearest_voice and s.sim is not None]
    if not found:
        return {}

    def interval(values: list[float]) -> list[float]:
        return mean_interval(values, config.bootstrap_samples, config.seed)

    sims = [s.nearest_voice["sim"] for s in found]
    own = [float(s.sim > s.nearest_voice["sim"]) for s in found]
    names = Counter(s.nearest_voice["name"] for s in found)
    return {"nearest": float(np.mean(sims)), "nearest_ci": interval(sims),
            "own_nearer": float(np.mean(own)), "own_nearer_ci": interval(own),
            "names": dict(sorted(names.items(), key=lambda item: (-item[1], item[0])))}
