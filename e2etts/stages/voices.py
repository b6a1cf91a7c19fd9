"""Speaker embeddings and voice prompts of known speakers, from training and enrolment sets."""

from pathlib import Path

import numpy as np
import torch

from e2etts.audio import load_wav
from e2etts.data.codes import Codes
from e2etts.data.datadir import read_table
from e2etts.errors import UserError
from e2etts.infer.pipeline import Prompt, Synthesizer
from e2etts.recipe import RecipeConfig


class Voices:
    """Speaker embeddings and voice prompts of known speakers, from their prepared recordings.

    Raises UserError for a set that is not prepared.
    """

    def __init__(self, recipe: RecipeConfig, synthesizer: Synthesizer):
        self.config, self.synthesizer = recipe.synthesis, synthesizer
        sets = [recipe.dump(name) for name in (recipe.corpus.train, recipe.corpus.enrol) if name]
        self.recipe = recipe
        self.folder_of = {utt: folder for folder in sets for utt in read_table(folder / "wav.scp")}
        self.wavs, self.text, self.lang, speaker_of, frames = (
            {u: v for folder in sets for u, v in read_table(folder / table).items()}
            for table in ("wav.scp", "text", "utt2lang", "utt2spk", "utt2num_frames"))
        self.frames = {utt: int(count) for utt, count in frames.items()}
        self.of_speaker: dict[str, list[str]] = {}
        for utt, speaker in speaker_of.items():
            self.of_speaker.setdefault(speaker, []).append(utt)
        emotions = recipe.dump(recipe.corpus.train) / "utt2emo"
        styled = read_table(emotions) if emotions.is_file() else {}
        self.styled = {(speaker_of[utt], style) for utt, style in styled.items()}
        self._voices: dict[str, torch.Tensor] = {}

    def references(self, speaker: str) -> list[str]:
        """Reference recordings of a speaker, evenly spread over all.

        Raises UserError where there is none."""
        utts = self.of_speaker.get(speaker)
        if not utts:
            known = sorted(self.of_speaker)
            raise UserError(f"speaker '{speaker}' has no recordings in training or enrolment; "
                            f"speakers: {', '.join(known[:20])}{', ...' if known[20:] else ''}")
        step = -(-len(utts) // self.config.references)
        return [self.wavs[u] for u in utts[::step]]

    def embedding(self, speaker: str) -> torch.Tensor:
        """(X,) mean embedding of a speaker's references."""
        if speaker not in self._voices:
            wavs = [self._load(path) for path in self.references(speaker)]
            self._voices[speaker] = self.synthesizer.speaker_embedding(wavs)
        return self._voices[speaker]

    def lm_speaker(self, lang: str, speaker: str, style: str | None = None,
                   own: torch.Tensor | None = None) -> torch.Tensor:
        """(X,) embedding that the LM is conditioned on: that of ``synthesis.lm_speakers``, or the
        speaker's own where training has recordings of that speaker in the style; own: embedding of
        an unseen speaker."""
        borrowed = self.config.lm_speakers.get(lang)
        if borrowed is None or (speaker, style) in self.styled:
            return self.embedding(speaker) if own is None else own
        return self.embedding(borrowed)

    def speaker_of(self, lang: str) -> str:
        """The first speaker of a language, in alphabetical order. Raises UserError without one."""
        for speaker in sorted(self.of_speaker):
            if self.lang[self.of_speaker[speaker][0]] == lang:
                return speaker
        known = sorted(set(self.lang.values()))
        raise UserError(f"no speaker of language '{lang}' in training or enrolment: name one with "
                        f"--speaker, or a language of {', '.join(known)}")

    def prompt(self, speaker: str) -> tuple[Prompt, torch.Tensor, str] | None:
        """(prompt, its embedding (X,), wav) of the longest recording of a speaker that is short
        enough for one; None where none is."""
        limit = self.config.prompt_max_seconds * self.synthesizer.audio.frame_rate_hz
        utts = [u for u in self.of_speaker[speaker] if self.frames[u] <= limit]
        if not utts:
            return None
        utt = max(utts, key=lambda u: (self.frames[u], u))
        ids = self.synthesizer.text_ids(self.text[utt], self.lang[utt])
        return *recording_prompt(self.recipe, self.synthesizer, self.folder_of[utt], utt,
                                 self.wavs[utt], ids), self.wavs[utt]

    def _load(self, path: str) -> np.ndarray:
        return load_wav(path, self.synthesizer.audio.sample_rate_hz)


def recording_prompt(recipe: RecipeConfig, synthesizer: Synthesizer, folder: Path, utt: str,
                     path: str, text_ids: list[int]) -> tuple[Prompt, torch.Tensor]:
    """(prompt, its speaker embedding (X,)) of a recording of the prepared set in ``folder``."""
    wav = load_wav(path, synthesizer.audio.sample_rate_hz)
    [tokens] = recording_tokens(recipe, synthesizer, folder, {utt: path})
    prompt = synthesizer.prompt_of(tokens, synthesizer.mel(wav), text_ids)
    return prompt, synthesizer.speaker_embedding([wav])


def recording_tokens(recipe: RecipeConfig, synthesizer: Synthesizer, folder: Path,
                     wavs: dict[str, str]) -> list[torch.Tensor]:
    """Speech tokens (T,) of recordings of the prepared set in ``folder``: encoded, or read from
    the set's files where the tokenizer reads codes."""
    if recipe.codes is None:
        rate = synthesizer.audio.sample_rate_hz
        return synthesizer.encode([load_wav(path, rate) for path in wavs.values()])
    codes = Codes(folder, recipe.codes[0], list(wavs), recipe.codes[1])
    return [torch.from_numpy(codes.row(utt)) for utt in wavs]
