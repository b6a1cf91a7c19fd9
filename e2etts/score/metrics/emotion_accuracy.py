"""Whether clips sound as requested (metric emotion): accuracy of a classifier's best label."""

from typing import Any

import numpy as np

from e2etts.score.config import ScoreConfig
from e2etts.score.judges import emotion_classifiers
from e2etts.score.judges.locate import Unavailable
from e2etts.score.score_run import ClipScore, ScoreRun


def score_emotion(run: ScoreRun) -> None:
    """Fill ``emotion``: the recognised label. Raises Unavailable where none is requested."""
    some = [s for s in run.good() if s.clip.emotion]
    if not some:
        raise Unavailable("no clip has a requested emotion",
                          "pass --emotions FILE of 'utt label' lines")
    meter = emotion_classifiers.find(run.config)
    labels = meter.labels()
    if unknown := sorted({s.clip.emotion for s in some} - set(labels)):
        raise Unavailable(f"the classifier does not know '{unknown[0]}', its labels are "
                          f"{', '.join(labels)}", "use its labels in --emotions")
    run.models["emotion"] = {"name": type(meter).__name__, "source": run.config.models["emotion"]}
    for s, label in run.measure(meter, some, "emotion"):
        s.values |= {"emotion": label, "emotion_right": float(label == s.clip.emotion)}


def summarise_emotion(some: list[ClipScore], config: ScoreConfig) -> dict[str, Any] | None:
    """Share of clips classified as requested, and the mean of that share over labels."""
    pairs = [(s.clip.emotion, s.values["emotion"]) for s in some if "emotion" in s.values]
    if not pairs:
        return None
    labels = sorted({want for want, _ in pairs})
    recalls = [np.mean([got == want for want, got in pairs if want == label]) for label in labels]
    return {"accuracy": float(np.mean([want == got for want, got in pairs])),
            "unweighted_accuracy": float(np.mean(recalls)),
            "scored": len(pairs), "expected": sum(bool(s.clip.emotion) for s in some)}
