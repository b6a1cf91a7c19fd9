"""Pseudo emotion labels from an external classifier (arXiv 2606.09234, stage 2)."""

from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from e2etts.audio import load_wav_as
from e2etts.data.datadir import DataDir, read_table, write_table
from e2etts.errors import UserError

PSEUDO = "utt2emo_pseudo"
SAVE_EVERY = 200


class EmotionModel(Protocol):
    """Any classifier of recordings; sample_rate_hz: of its input."""

    sample_rate_hz: int

    def __call__(self, wav: np.ndarray) -> dict[str, float]:
        """(S,) samples in [-1, 1] -> probability of each label."""


class TransformersEmotion:
    """An audio-classification model of Hugging Face transformers, by folder or name on the hub.

    Raises UserError for one that is not there, or whose weights are not safetensors: pickles are
    not read, and no code of a model is run.
    """

    def __init__(self, name: str):
        try:
            from transformers import AutoFeatureExtractor, AutoModelForAudioClassification
        except ModuleNotFoundError as e:
            raise UserError(f"package {e.name} is not installed: tools/install.sh --extras emotion"
                            ) from e
        try:
            self._extract = AutoFeatureExtractor.from_pretrained(name, trust_remote_code=False)
            self._net = AutoModelForAudioClassification.from_pretrained(
                name, use_safetensors=True, trust_remote_code=False).eval()
        except (OSError, ValueError) as e:
            raise UserError(f"{name}: not an audio-classification model with safetensors weights: "
                            f"{' '.join(str(e).split())[:300]}") from e
        self.sample_rate_hz = self._extract.sampling_rate

    def __call__(self, wav: np.ndarray) -> dict[str, float]:
        import torch

        given = self._extract(wav, sampling_rate=self.sample_rate_hz, return_tensors="pt")
        with torch.no_grad():
            p = self._net(**given).logits[0].softmax(-1).tolist()
        return {self._net.config.id2label[i].replace(" ", "_"): v for i, v in enumerate(p)}


def label_emotions(folder: str | Path, model: EmotionModel, *, least_confidence: float,
                   rename: dict[str, str] | None = None) -> None:
    """Label the utterances of a data folder that have no label of their own.

    Every prediction is kept in ``utt2emo_pseudo`` ("utt label confidence"), from which an
    interrupted or repeated run resumes; those of at least ``least_confidence`` are added to
    ``utt2emo``, with labels renamed. Labels that were not made here are never changed. Raises
    UserError for audio that cannot be read.
    """
    folder = Path(folder)
    data = DataDir.load(folder, need_wav=True)
    answers = _answers(folder / PSEUDO)
    true = {u: label for u, label in data.utt2emo.items() if u not in answers}
    todo = [u for u in data.utts if u not in true and u not in answers]
    for count, utt in enumerate(tqdm(todo, desc=f"{folder.name}: emotion", unit="utt"), start=1):
        found = model(load_wav_as(data.wav[utt], model.sample_rate_hz))
        label = max(found, key=found.get)
        answers[utt] = (label, found[label])
        if count % SAVE_EVERY == 0 or count == len(todo):
            write_table(folder / PSEUDO, {u: f"{a} {p:.4f}" for u, (a, p) in answers.items()})
    sure = {u: (rename or {}).get(label, label) for u, (label, p) in answers.items()
            if p >= least_confidence}
    data.utt2emo = {**true, **sure}
    data.save(folder)
    print(f"{folder}: {len(true)} labels of its own, {len(sure)} pseudo labels, "
          f"{len(answers) - len(sure)} less sure than {least_confidence:g} left without")


def _answers(path: Path) -> dict[str, tuple[str, float]]:
    if not path.is_file():
        return {}
    rows = {u: v.split() for u, v in read_table(path).items()}
    try:
        return {u: (label, float(p)) for u, (label, p) in rows.items()}
    except ValueError as e:
        raise UserError(f"{path}: expected 'utt label confidence' in each line: delete it to "
                        "label again") from e
