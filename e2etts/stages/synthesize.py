"""Synthesis into files: one text, or whole sets by copy synthesis, from text, in unseen voices."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from e2etts.audio import load_wav, load_wav_as, save_wav
from e2etts.data.datadir import read_table
from e2etts.files import write_text
from e2etts.infer.pipeline import Speech, Synthesizer
from e2etts.recipe import RecipeConfig
from e2etts.stages.voices import Voices, recording_tokens
from e2etts.stages.zero_shot import PromptVoices
from e2etts.tasks.metrics import entropy_bits

COUNTED_UTTS = 1000  # at most, for codebook usage


def speak_text(recipe: RecipeConfig, synthesizer: Synthesizer, text: str, out: Path, *, lang: str,
               speaker: str | None = None, style: str | None = None,
               prompt: tuple[Path, str] | None = None) -> float:
    """Synthesize one text into the file ``out`` and return its length in seconds.

    speaker: default the first one of the language. prompt: (recording, its transcript); replaces
    ``speaker``. Raises UserError for an unknown language, speaker
    or style."""
    rate, prefix = synthesizer.audio.sample_rate_hz, None
    if prompt is not None:
        wav = load_wav_as(prompt[0], rate)
        prefix = synthesizer.prompt(wav, prompt[1], lang)
        embedding = lm_speaker = synthesizer.speaker_embedding([wav])
    else:
        voices = Voices(recipe, synthesizer)
        speaker = speaker or voices.speaker_of(lang)
        embedding = voices.embedding(speaker)
        lm_speaker = voices.lm_speaker(lang, speaker, style)
    speech = synthesizer.speak([synthesizer.text_ids(text, lang)], [lang], [embedding],
                               lm_speakers=[lm_speaker], prompt=prefix, seed=recipe.seed,
                               styles=[style])[0]
    save_wav(out, speech.wav, rate)
    return len(speech.wav) / rate


class SetSynthesizer:
    """Synthesizes the sets of a recipe into a folder of wavs."""

    def __init__(self, recipe: RecipeConfig, synthesizer: Synthesizer, folder: Path):
        self.recipe, self.synthesizer, self.folder = recipe, synthesizer, folder
        self.voices = Voices(recipe, synthesizer)

    def every_set(self) -> None:
        """Synthesize all test sets, zero-shot sets and sets of sentences of the recipe."""
        for name in self.recipe.corpus.tests:
            self.test_set(name)
        for name in self.recipe.corpus.zero_shot:
            self.zero_shot(name)
        for name in self.recipe.corpus.sentences:
            self.sentences(name)

    def test_set(self, name: str) -> None:
        """Recording, copy and text-to-speech of a set, some clips by voice prompt, and some
        recordings through the vocoder."""
        table = self._with_references(self._tables(name, "wav.scp"))
        config = self.recipe.synthesis
        self._recordings(name, table)
        utts = sorted(table["wav.scp"])
        if config.vocoded_clips:
            some = _only(table, utts[:: -(-len(utts) // config.vocoded_clips)])
            self._speak("vocoded", name, some, lambda utts: self.synthesizer.revocode(
                [load_wav(some["wav.scp"][u], self.recipe.audio.sample_rate_hz) for u in utts]))
        self._speak("copy", name, table, lambda utts: self.synthesizer.resynthesize(
            recording_tokens(self.recipe, self.synthesizer, self.recipe.dump(name),
                             {u: table["wav.scp"][u] for u in utts}),
            self._embeddings(table, utts), self.recipe.seed, self._styles(table, utts)))
        self._speak("tts", name, table, lambda utts: self._from_text(table, utts))
        self._by_prompt(name, table, utts[: config.prompt_clips])

    def _by_prompt(self, name: str, table: dict, utts: list[str]) -> None:
        """The same texts in the voice of one short recording; prints where there is none."""
        if not utts:
            return
        speaker = table["utt2spk"][utts[0]]
        found = self.voices.prompt(speaker)
        if found is None:
            print(f"tts_prompt {name}: left out: no recording of {speaker} is shorter than "
                  f"synthesis.prompt_max_seconds")
            return
        prompt, embedding, prompt_wav = found
        only = _only(table, [u for u in utts if table["utt2spk"][u] == speaker])
        only["prompt"] = dict.fromkeys(only["text"], prompt_wav)
        self._speak("tts_prompt", name, only, lambda some: self.synthesizer.speak(
            *self._texts(only, some), [embedding] * len(some), prompt=prompt,
            seed=self.recipe.seed, styles=self._styles(only, some)))

    def zero_shot(self, name: str) -> None:
        """Texts in voices that training does not have, each known by a prompt of its own: the
        prompt continued by LM and FM (tts_prompt), and its speaker embedding alone
        (tts_embedding). The recordings of the texts, for comparison."""
        every = self._tables(name, "wav.scp", "utt2prompt")
        voices = PromptVoices(self.recipe, self.synthesizer, self.recipe.dump(name), every)
        table = _only(every, voices.utts)
        table["prompt"] = {u: voices.prompt_wav(u) for u in voices.utts}
        table["references"] = {u: voices.references(u) for u in voices.utts}
        self._recordings(name, table)
        # Prompts differ in length, so only texts of one prompt are decoded together.
        self._speak("tts_prompt", name, table, lambda utts: self.synthesizer.speak(
            *self._texts(table, utts), [voices.embedding(u) for u in utts],
            prompt=voices.prompt(utts[0]), seed=self.recipe.seed,
            styles=self._styles(table, utts)), voices.batches(self.recipe.synthesis.batch))
        self._speak("tts_embedding", name, table, lambda utts: self._from_text(
            table, utts, {u: voices.embedding(u) for u in utts}))

    def sentences(self, name: str) -> None:
        """Text-to-speech of a set that has texts only."""
        table = self._with_references(self._tables(name))
        self._speak("tts", name, table, lambda utts: self._from_text(table, utts))

    def _tables(self, name: str, *more: str) -> dict[str, dict[str, str]]:
        folder = self.recipe.dump(name)
        table = {f: read_table(folder / f) for f in ("text", "text_ids", "utt2lang", "utt2spk",
                                                     *more)}
        styled = self.synthesizer.system.config.style and (folder / "utt2emo").is_file()
        return {**table, "utt2emo": read_table(folder / "utt2emo") if styled else {}, "prompt": {}}

    def _with_references(self, table: dict) -> dict:
        """With the references of voices that have recordings in training or enrolment."""
        speakers = table["utt2spk"]
        of = {speaker: self.voices.references(speaker) for speaker in set(speakers.values())}
        return {**table, "references": {u: of[speaker] for u, speaker in speakers.items()}}

    def _styles(self, table: dict, utts: list[str]) -> list[str | None]:
        return [table["utt2emo"].get(u) for u in utts]

    def _texts(self, table: dict, utts: list[str]) -> tuple[list[list[int]], list[str]]:
        return ([[int(i) for i in table["text_ids"][u].split()] for u in utts],
                [table["utt2lang"][u] for u in utts])

    def _embeddings(self, table: dict, utts: list[str]) -> list[torch.Tensor]:
        return [self.voices.embedding(table["utt2spk"][u]) for u in utts]

    def _from_text(self, table: dict, utts: list[str],
                   unseen: dict[str, torch.Tensor] | None = None) -> list[Speech]:
        """unseen: speaker embeddings (X,) by utterance, of voices that training does not have."""
        styles = self._styles(table, utts)
        lm_speakers = [self.voices.lm_speaker(table["utt2lang"][u], table["utt2spk"][u], style,
                                              unseen and unseen[u])
                       for u, style in zip(utts, styles, strict=True)]
        speakers = [unseen[u] for u in utts] if unseen else self._embeddings(table, utts)
        return self.synthesizer.speak(*self._texts(table, utts), speakers,
                                      lm_speakers=lm_speakers, seed=self.recipe.seed,
                                      styles=styles)

    def _recordings(self, name: str, table: dict) -> None:
        rate = self.recipe.audio.sample_rate_hz
        wavs = {u: Path(w) for u, w in table["wav.scp"].items()}
        seconds = {u: len(load_wav(w, rate)) / rate for u, w in wavs.items()}
        self._manifest("recording", name, table, seconds, wavs)

    def _speak(self, system: str, name: str, table: dict,
               speak: Callable[[list[str]], list[Speech]],
               batches: list[list[str]] | None = None) -> None:
        """batches: utterances that ``speak`` gets together, by default of similar length."""
        folder, rate = self.folder / system / name, self.recipe.audio.sample_rate_hz
        seconds, spent, scores = {}, {}, {}
        # A batch takes as long as its longest row.
        order = sorted(table["text_ids"], key=lambda u: (len(table["text_ids"][u]), u))
        if batches is None:
            batches = list(_chunks(order, self.recipe.synthesis.batch))
        for utts in tqdm(batches, desc=f"{system} {name}", unit="batch"):
            start = time.perf_counter()
            for utt, speech in zip(utts, speak(utts), strict=True):
                save_wav(folder / f"{utt}.wav", speech.wav, rate)
                seconds[utt], scores[utt] = len(speech.wav) / rate, speech.score
            for utt in utts:
                spent[utt] = (time.perf_counter() - start) / len(utts)
        self._manifest(system, name, table, seconds, {u: folder / f"{u}.wav" for u in order},
                       spent, scores)

    def _manifest(self, system: str, name: str, table: dict, seconds: dict[str, float],
                  wavs: dict[str, Path], spent: dict[str, float] | None = None,
                  scores: dict[str, float | None] | None = None) -> None:
        folder = self.folder / system / name
        lines = []
        for utt in sorted(wavs):
            speaker, prompt = table["utt2spk"][utt], table["prompt"].get(utt)
            score = (scores or {}).get(utt)
            lines.append(json.dumps({
                "utt": utt, "wav": _relative(wavs[utt], folder), "text": table["text"][utt],
                "lang": table["utt2lang"][utt], "speaker": speaker,
                "emotion": table["utt2emo"].get(utt, ""),
                "unseen": speaker not in self.synthesizer.vocab.speakers,
                "references": [_relative(w, folder) for w in table["references"][utt]],
                "prompt": _relative(prompt, folder) if prompt else None,
                "seconds": round(seconds[utt], 3),
                "synthesis_seconds": round((spent or {}).get(utt, 0.0), 4),
                "rm_nats": None if score is None or not np.isfinite(score) else round(score, 4),
            }, ensure_ascii=False))
        write_text(folder / "manifest.jsonl", "".join(line + "\n" for line in lines))


def count_tokens(sets: SetSynthesizer, path: Path) -> None:
    """Codebook usage over evenly spread training recordings: counts, entropy, used share."""
    wavs = read_table(sets.recipe.dump(sets.recipe.corpus.train) / "wav.scp")
    utts = sorted(wavs)
    utts = utts[:: -(-len(utts) // COUNTED_UTTS)]
    size = sets.synthesizer.system.tokenizer.codebook_size
    counts = torch.zeros(size, dtype=torch.long)
    folder = sets.recipe.dump(sets.recipe.corpus.train)
    for some in tqdm(list(_chunks(utts, 32)), desc="token usage", unit="batch"):
        for row in recording_tokens(sets.recipe, sets.synthesizer, folder,
                                    {u: wavs[u] for u in some}):
            counts += torch.bincount(row, minlength=size)
    p = counts.double() / counts.sum()
    write_text(path, json.dumps({
        "codebook_size": size, "tokens": int(counts.sum()), "counts": counts.tolist(),
        "entropy_bits": float(entropy_bits(p)),
        "used_share": float((counts > 0).double().mean())}) + "\n")


def _relative(path: str | Path, folder: Path) -> str:
    return os.path.relpath(path, folder)


def _only(table: dict[str, dict], utts: list[str]) -> dict[str, dict]:
    """Tables of some utterances."""
    return {k: {u: v[u] for u in utts if u in v} for k, v in table.items()}


def _chunks(items: list[str], size: int) -> Iterator[list[str]]:
    for i in range(0, len(items), size):
        yield items[i : i + size]
