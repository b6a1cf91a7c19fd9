"""Emotion classifiers: audio classifiers of transformers, and the emotion head of the RM."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from e2etts.data.vocab import Vocab
from e2etts.errors import UserError
from e2etts.score.config import ScoreConfig
from e2etts.score.judges.locate import HUB_REMEDY, Unavailable, locate_hub, require, stamp
from e2etts.score.judges.trained_system import FORM, SystemMeter, TrainedSystem, trunk
from e2etts.score.meter import JUDGE_RATE_HZ, Measure, Meter, each


@dataclass(frozen=True)
class HubClassifier(Meter):
    """Best label of an audio classifier of transformers. model: folder or hub name."""

    model: str
    local: bool
    name: str = "emotion"
    remedy = HUB_REMEDY

    def key(self, lang: str) -> str:
        return f"hub-classifier {stamp(self.model)}"

    def labels(self) -> list[str]:
        """All labels it can return."""
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(self.model, local_files_only=self.local)
        return sorted(config.id2label.values())

    def open(self, device: str) -> Measure:
        import torch
        from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

        features = AutoFeatureExtractor.from_pretrained(self.model, local_files_only=self.local)
        net = AutoModelForAudioClassification.from_pretrained(
            self.model, local_files_only=self.local).to(device).eval()

        @torch.no_grad()
        def measure(wav: np.ndarray, lang: str) -> str:
            x = features(wav, sampling_rate=JUDGE_RATE_HZ, return_tensors="pt").to(device)
            return net.config.id2label[int(net(**x).logits[0].argmax())]

        return each(measure)


@dataclass(frozen=True)
class RewardClassifier(SystemMeter):
    """Best label of the reward model, which took part in training: a check, not a judge."""

    name: str = "emotion"

    def key(self, lang: str) -> str:
        return f"rm-emotion {self.system.identity}"

    def labels(self) -> list[str]:
        """All labels it can return."""
        return Vocab.load(self.system.dump).emotions

    def open(self, device: str) -> Measure:
        import torch

        synthesizer = self.system.load(device)
        states, rm = trunk(synthesizer), synthesizer.system.rm
        if "emotion" not in rm.heads:
            raise UserError("this reward model has no emotion head: its training data had no "
                            "utt2emo with two labels")

        @torch.no_grad()
        def measure(path: Path, lang: str) -> str:
            return synthesizer.vocab.emotions[
                int(rm.classify("emotion", *states(path))[0].argmax())]

        return each(measure)


def find(config: ScoreConfig) -> Meter:
    """The classifier of ``score.models.emotion``: ``rm:`` and a system, or a folder or hub name.

    Any Meter whose value is one of its ``labels()`` fits. Raises Unavailable.
    """
    name = config.models.get("emotion")
    if name is None:
        raise Unavailable("no classifier is configured",
                          "score.models.emotion=FOLDER or hub name of an "
                          f"audio classifier of transformers, or rm: and {FORM}")
    if name.startswith("rm:"):
        return RewardClassifier(TrainedSystem.at(name.removeprefix("rm:")))
    require(["transformers"])
    return HubClassifier(*locate_hub("score.models.emotion", "", name))
