"""Extends the vocabularies of a trained system: new languages, speakers or text tokens."""

import torch
from torch import Tensor

from e2etts.data.vocab import Vocab
from e2etts.errors import UserError

# Tables with a row for each text token or label, and how many rows stand behind those (the CTC
# blank, the start and the end of a text).
_INPUTS = {"lm.text.weight": 0, "lm.language.weight": 0, "lm.style.weight": 0,
           "fm.style.weight": 0, "rm.text.weight": 1}
_CLASSES = {"rm.ctc.weight": 1, "rm.ctc.bias": 1, "rm.head.weight": 1, "rm.head.bias": 1,
            "rm.heads.speaker.weight": 0, "rm.heads.speaker.bias": 0,
            "rm.heads.emotion.weight": 0, "rm.heads.emotion.bias": 0}
_NEW_HEADS = ("rm.heads.", "rm.pools.")
IMPROBABLE = 10.0


def extend_vocab(trained: dict[str, Tensor], fresh: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of ``trained`` in the shapes of ``fresh``, a system of the same configuration
    whose vocabularies begin with those of the trained one.

    Rows that were trained keep their values. New text tokens begin as in ``fresh``, new languages
    at the mean of the old ones, new classes of the RM at a logit that changes no old probability
    by much: e^-10 below the least likely class by its bias. So outputs for old inputs stay the
    same.
    """
    out = dict(trained)
    for name, new in fresh.items():
        old = trained.get(name)
        if old is None and name.startswith(_NEW_HEADS):  # the first data with such labels
            out[name] = new
        elif old is not None and old.shape != new.shape and name in {**_INPUTS, **_CLASSES}:
            behind = {**_INPUTS, **_CLASSES}[name]
            rows = new[: len(new) - len(old)].clone()
            if name in _CLASSES:
                rows.fill_(old.min() - IMPROBABLE if name.endswith("bias") else 0.0)
            elif name == "lm.language.weight":
                rows.copy_(old.mean(0).expand_as(rows))
            kept = len(old) - behind
            out[name] = torch.cat([old[:kept], rows, old[kept:]])
    return out


def check_extends(new: Vocab, old: Vocab, where: str) -> None:
    """Raise UserError where ``new`` does not begin with the labels of ``old`` or has other mel
    scalars: rows would change their meaning."""
    for kind in ("speakers", "languages", "emotions"):
        if getattr(new, kind)[: len(getattr(old, kind))] != getattr(old, kind):
            raise UserError(f"{where}: its {kind} are not the first ones of this system: set "
                            "extends.dump before the data are prepared, and prepare again "
                            "(--stage 2)")
    if (new.mel_mean, new.mel_std) != (old.mel_mean, old.mel_std) or new.text_size < old.text_size:
        raise UserError(f"{where}: other mel scalars or fewer text tokens: prepare the data again "
                        "with this extends.dump (--stage 2)")
