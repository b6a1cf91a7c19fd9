"""Zero-shot sets: texts to be spoken in voices that training does not have.

Such a set is a data directory with wav.scp and ``utt2prompt``: utterance -> another one of the same
speaker, whose recording and text are the voice prompt. Utterances without a prompt are not spoken;
they serve as prompts and as references of their voice.
"""

from pathlib import Path

from e2etts.data.datadir import DataDir, read_table
from e2etts.data.vocab import Vocab
from e2etts.errors import UserError


def check_zero_shot(folder: Path, train: Path, before: Vocab | None = None) -> None:
    """Raise UserError unless the data directory ``folder`` is a zero-shot set for the training set
    ``train``: it has prompts, none of its speakers is in training, and all of its languages are.

    before: speakers and languages of an earlier training.
    """
    data = DataDir.load(folder, need_wav=True)
    if not data.utt2prompt:
        raise UserError(f"{folder}/utt2prompt: missing: a set of corpus.zero_shot needs it, lines "
                        "of 'utterance prompt', where the prompt is another utterance of the same "
                        "speaker")
    trained = {*read_table(train / "utt2spk").values(), *(before.speakers if before else ())}
    if known := sorted(set(data.utt2spk.values()) & trained):
        raise UserError(f"{folder}/utt2spk: '{known[0]}' is in the training data too, so it is not "
                        f"zero-shot ({len(known)} such speakers): take it out of one of them")
    languages = {*read_table(train / "utt2lang").values(), *(before.languages if before else ())}
    if unknown := sorted(set(data.utt2lang.values()) - languages):
        raise UserError(f"{folder}/utt2lang: '{unknown[0]}' is not in the training data: it cannot "
                        f"be spoken; languages: {', '.join(sorted(languages))}")
