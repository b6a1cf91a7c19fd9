"""Whether clips sound as requested (metric emotion): accuracy of a classifier's best label."""

from typing import Any

import numpy as np

from e2etts.score.config import ScoreConfig
from e2etts.score.judges import emotion_classifiers
from e2etts.score.judges.locate import Unavailable
from e2etts.score.score_run import ClipScore, ScoreRun


def score_emotion(run: ScoreRun) -> None:
    """Fill ``emotion``: the label that was heard. Raises Unavailable where none is expected."""
    some = [s for s in run.good() if s.clip.emotion]
    if not some:
        raise Unavailable("no clip has an emotion that it should have",
                          "give them: --emotions FILE of 'utt label' lines")
    meter = emotion_classifiers.find(run.config)
    labels = meter.labels()
    if unknown := sorted({s.clip.emotion for s in some} - set(labels)):
        raise Unavailable(f"the classifier does not know '{unknown[0]}', it hears "
                          f"{', '.join(labels)}", "call the emotions of the clips as it does")
    run.models["emotion"] = {"name": type(meter).__name__, "source": run.config.models["emotion"]}
    for s, label in run.measure(meter, some, "emotion"):
        s.values |= {"emotion": label, "emotion_right": float(label == s.clip.emotion)}


def summarise_emotion(some: list[ClipScore], config: ScoreConfig) -> dict[str, Any] | None:
    """Share of clips heard as they should be, and the mean of that share over labels."""
    heard = [(s.clip.emotion, s.values["emotion"]) for s in some if "emotion" in s.values]
    if not heard:
        return None
    labels = sorted({want for want, _ in heard})
    recalls = [np.mean([got == want for want, got in heard if want == label]) for label in labels]
    return {"accuracy": float(np.mean([want == got for want, got in heard])),
            "unweighted_accuracy": float(np.mean(recalls)),
            "scored": len(heard), "expected": sum(bool(s.clip.emotion) for s in some)}
