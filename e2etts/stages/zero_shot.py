"""Voices that training does not have, each known by one recording of theirs (corpus.zero_shot)."""

from pathlib import Path

import torch

from e2etts.infer.pipeline import Prompt, Synthesizer
from e2etts.recipe import RecipeConfig
from e2etts.stages.voices import recording_prompt


class PromptVoices:
    """The voices in which the utterances of a zero-shot set are spoken: those of their prompts.

    table: tables of the prepared set in ``folder`` by file name; all values are by utterance.
    """

    def __init__(self, recipe: RecipeConfig, synthesizer: Synthesizer, folder: Path,
                 table: dict[str, dict[str, str]]):
        self.recipe, self.synthesizer, self.folder = recipe, synthesizer, folder
        self.wavs, self.text_ids = table["wav.scp"], table["text_ids"]
        self.prompt_of, self.speaker_of = table["utt2prompt"], table["utt2spk"]
        self._known: dict[str, tuple[Prompt, torch.Tensor]] = {}

    @property
    def utts(self) -> list[str]:
        """Utterances that have a prompt: those to be spoken."""
        return sorted(self.prompt_of)

    def batches(self, size: int) -> list[list[str]]:
        """Utterances of one prompt together, at most ``size`` at a time."""
        order = sorted(self.utts, key=lambda u: (self.prompt_of[u], len(self.text_ids[u]), u))
        out: list[list[str]] = []
        for utt in order:
            if not out or len(out[-1]) == size or self.prompt_of[out[-1][0]] != self.prompt_of[utt]:
                out.append([])
            out[-1].append(utt)
        return out

    def prompt(self, utt: str) -> Prompt:
        """The voice prompt of an utterance."""
        return self._load(utt)[0]

    def embedding(self, utt: str) -> torch.Tensor:
        """(X,) speaker embedding of the prompt of an utterance."""
        return self._load(utt)[1]

    def prompt_wav(self, utt: str) -> str:
        return self.wavs[self.prompt_of[utt]]

    def references(self, utt: str) -> list[str]:
        """Recordings of the voice of an utterance, evenly spread: neither its prompt, nor that of
        its own text."""
        others = [u for u, speaker in self.speaker_of.items() if speaker == self.speaker_of[utt]
                  and u not in (utt, self.prompt_of[utt])]
        step = max(1, -(-len(others) // self.recipe.synthesis.references))
        return [self.wavs[u] for u in others[::step]]

    def _load(self, utt: str) -> tuple[Prompt, torch.Tensor]:
        prompt = self.prompt_of[utt]
        if prompt not in self._known:
            ids = [int(i) for i in self.text_ids[prompt].split()]
            self._known[prompt] = recording_prompt(self.recipe, self.synthesizer, self.folder,
                                                   prompt, self.wavs[prompt], ids)
        return self._known[prompt]
