"""Speaker similarity (metric sim): cosine of speaker embeddings, by default Resemblyzer's.

Of clips in voices that training does not have, also to the most similar training voice: what a
system reaches that imitates nobody and picks a voice it knows.
"""

from pathlib import Path
from typing import Any

import numpy as np

from e2etts.score.clips import Clip
from e2etts.score.config import ScoreConfig
from e2etts.score.judges import ecapa, resemblyzer, wavlm_sv
from e2etts.score.meter import Meter, WavJob, unpack
from e2etts.score.score_run import ScoreRun, own_job

SPEAKER_MODELS = {"resemblyzer": resemblyzer, "wavlm-sv": wavlm_sv, "ecapa": ecapa}


def mean_embedding(vectors: list[str]) -> np.ndarray | None:
    """Unit mean of packed speaker embeddings; None when there are none."""
    if not vectors:
        return None
    mean = np.mean([unpack(v) for v in vectors], axis=0)
    return mean / np.linalg.norm(mean)


def cosine(vector: str | None, embedding: np.ndarray) -> float:
    """Similarity to a unit speaker embedding; 0 for silence (None)."""
    return 0.0 if vector is None else float(unpack(vector) @ embedding)


def speaker_meter(config: ScoreConfig) -> Meter:
    """The model of ``score.speaker``. Raises Unavailable where it cannot be fetched."""
    return SPEAKER_MODELS[config.speaker].find(config)


def score_sim(run: ScoreRun) -> None:
    """Fill ``sim``, to the mean of a speaker's references, ``sim_prompt``, and ``nearest_voice`` of
    clips of unseen voices."""
    meter, some = speaker_meter(run.config), run.good()
    run.models["sim"] = meter.describe()
    own = {(s.clip.set, s.clip.utt): run.cache.hash_of(s.clip.wav) for s in some
           if s.clip.system == "recording"}
    real = {c for s in some for c in _references(s.clip, run.config)}
    real |= {s.clip.prompt for s in some if s.clip.prompt}
    voices = run.voices if any(s.clip.unseen for s in some) else {}
    real |= {p for paths in voices.values() for p in paths}
    references = [WavJob(p, "") for p in sorted(real)]
    values = run.of(meter, [*(own_job(s.clip) for s in some), *references])
    embeddings = {job.path: values[job] for job in references
              if isinstance(values.get(job), str)}
    known = {voice: mean_embedding([embeddings[p] for p in paths if p in embeddings])
             for voice, paths in voices.items()}
    known = {voice: mean for voice, mean in known.items() if mean is not None}
    means: dict[Any, np.ndarray | None] = {}
    for s, vector in run.sort_out(values, some, "sim"):
        if vector is None:
            s.notes.append("silent")
        # The recording of the utterance itself would make any copy of it look too good.
        without = own.get((s.clip.set, s.clip.utt))
        paths = tuple(p for p in _references(s.clip, run.config)
                      if p in embeddings and run.cache.hash_of(p) != without)
        if paths not in means:
            means[paths] = mean_embedding([embeddings[p] for p in paths])
        if means[paths] is None:
            s.notes.append("no readable reference of its speaker")
        else:
            s.sim = cosine(vector, means[paths])
        if s.clip.prompt in embeddings:
            s.sim_prompt = cosine(vector, unpack(embeddings[s.clip.prompt]))
        if s.clip.unseen and known:
            sims = {voice: cosine(vector, mean) for voice, mean in known.items()}
            name = max(sims, key=sims.__getitem__)
            s.nearest_voice = {"name": "none" if vector is None else name, "sim": sims[name]}


def _references(clip: Clip, config: ScoreConfig) -> tuple[Path, ...]:
    """At most ``references_per_speaker`` of a clip's references, evenly spread."""
    step = -(-len(clip.references) // config.references_per_speaker)
    return clip.references[:: max(1, step)]
