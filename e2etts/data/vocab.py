"""Labels and scalars of a prepared corpus: ``dump/vocab.json``."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from e2etts.errors import UserError
from e2etts.files import write_text


@dataclass(frozen=True, kw_only=True)
class Vocab:
    """What the models must know of the training data; ids are places in the lists.

    mel_mean, mel_std: of natural-log mel values over the speech frames of the train set.
    text_size: number of text token ids. space: text token ids that stand between two texts
    which are joined (empty where every text begins with its own space).
    """

    speakers: list[str]
    languages: list[str]
    emotions: list[str]
    mel_mean: float
    mel_std: float
    text_size: int
    space: list[int]

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
