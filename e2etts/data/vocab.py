"""Labels and scalars of a prepared corpus: ``dump/vocab.json``."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from e2etts.data.datadir import read_table
from e2etts.errors import UserError
from e2etts.files import write_text


@dataclass(frozen=True, kw_only=True)
class Vocab:
    """What the models must know of the training data; ids are places in the lists.

    mel_mean, mel_std: of natural-log mel values over the speech frames of the train set.
    text_size: number of text token ids. space: text token ids that stand between two texts
    which are joined (empty where every text begins with its own space). tokens_per_text_token:
    (low, high) of ``token_ratios``; mean_tokens_per_text_token: speech tokens by text tokens of the
    train set; both None in files of earlier versions.
    """

    speakers: list[str]
    languages: list[str]
    emotions: list[str]
    mel_mean: float
    mel_std: float
    text_size: int
    space: list[int]
    tokens_per_text_token: list[float] | None = None
    mean_tokens_per_text_token: float | None = None

    @classmethod
    def load(cls, dump: str | Path) -> "Vocab":
        """Read ``dump/vocab.json``. Raises UserError when it is missing or not a vocabulary."""
        path = Path(dump) / "vocab.json"
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as e:
            raise UserError(f"{path}: no such file: run the prepare stage (--stage 2)") from e
        except (OSError, ValueError, TypeError) as e:
            raise UserError(f"{path}: not a vocabulary ({e}): run the prepare stage again "
                            "(--stage 2)") from e

    def save(self, dump: str | Path) -> None:
        """Write ``dump/vocab.json``; an unchanged one is left alone."""
        path = Path(dump) / "vocab.json"
        content = json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n"
        if not path.is_file() or path.read_text(encoding="utf-8") != content:
            write_text(path, content)


def token_ratios(folder: str | Path, frames_per_token: int) -> list[float]:
    """(low, high) speech tokens per text token of a prepared set: of all languages the least 1st
    and the greatest 99th percentile over utterances, so that the limits of a rare language, or of
    one with larger text tokens, hold for it too."""
    frames, texts, languages = (read_table(Path(folder) / name) for name in (
        "utt2num_frames", "text_ids", "utt2lang"))
    found: dict[str, list[float]] = {}
    for utt, count in frames.items():
        tokens = math.ceil(int(count) / frames_per_token)
        found.setdefault(languages[utt], []).append(tokens / max(1, len(texts[utt].split())))
    ends = [np.quantile(ratios, (0.01, 0.99)) for ratios in found.values()]
    return [round(float(min(e[0] for e in ends)), 3), round(float(max(e[1] for e in ends)), 3)]
