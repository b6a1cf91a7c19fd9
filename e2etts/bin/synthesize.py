"""Speak the test sets and sentences: recordings, copy synthesis, text-to-speech, voice prompts.

Reads exp/TAG/joint/best, exp/TAG/vocoder/best, dump/; writes exp/TAG/wavs/SYSTEM/SET/ (wavs and
manifest.jsonl) and exp/TAG/tokens.json (how the codebook is used).

examples:
  e2etts synthesize                          speak every set with the joint system
  e2etts synthesize --system tokenizer       hear an earlier stage
  e2etts synthesize --text "Hello there." --out hello.wav
  e2etts synthesize --text "Hello there." --style whisper --out whisper.wav
  e2etts synthesize --text "Hello." --prompt me.wav --prompt_text "What I said." --out me2.wav
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from e2etts.audio import load_wav, load_wav_as, save_wav
from e2etts.bin.main import add_checkpoint_argument, add_recipe_arguments, experiment_folder
from e2etts.data.datadir import read_table
from e2etts.errors import UserError
from e2etts.files import write_text
from e2etts.infer.pipeline import Speech, Synthesizer
from e2etts.infer.voices import Voices
from e2etts.recipe import RecipeConfig, load_recipe
from e2etts.tasks.health import entropy_bits

COUNTED_UTTS = 1000  # at most, for the use of the codebook


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--system", default="joint", metavar="STAGE",
                        help="stage whose system speaks (default: %(default)s)")
    add_checkpoint_argument(parser)
    parser.add_argument("--wavs", default="wavs", metavar="NAME",
                        help="folder below exp/TAG to write to (default: %(default)s)")
    parser.add_argument("--text", help="speak this text instead of the sets")
    parser.add_argument("--lang", default="en", help="its language (default: %(default)s)")
    parser.add_argument("--speaker", help="its speaker (default: the first of its language)")
    parser.add_argument("--style", metavar="LABEL",
                        help="speak --text in this style, one of the emotion labels of the "
                             "training data (default: none; sets name theirs in utt2emo)")
    parser.add_argument("--prompt", metavar="WAV", help="speak in the voice of this recording")
    parser.add_argument("--prompt_text", help="what the recording says")
    parser.add_argument("--out", metavar="WAV", help="file to write --text to")
    add_recipe_arguments(parser)


def run(args: argparse.Namespace) -> None:
    recipe = load_recipe(args.config, args.overrides)
    root = experiment_folder(args)
    synthesizer = Synthesizer.load(
        root / args.system / args.checkpoint, root / "vocoder" / args.checkpoint,
        recipe.corpus.dump_dir, recipe.synthesis)
    job = Job(recipe, synthesizer, root / args.wavs)
    if args.text is not None:
        say(args, job)
        return
    if args.style is not None:
        raise UserError("--style belongs to --text: sets name the styles of their utterances in "
                        "utt2emo")
    job.every_set()
    count_tokens(job, root / "tokens.json")


def say(args: argparse.Namespace, job: "Job") -> None:
    """Speak one text into one file."""
    if not args.out:
        raise UserError("--text needs --out FILE.wav to write to")
    if (args.prompt is None) != (args.prompt_text is None):
        raise UserError("--prompt and --prompt_text belong together: give both or none")
    synthesizer = job.synthesizer
    prompt = None
    if args.prompt:
        wav = load_wav_as(args.prompt, synthesizer.audio.sample_rate_hz)
        prompt = synthesizer.prompt(wav, args.prompt_text, args.lang)
        voice = reader = synthesizer.voice([wav])
    else:
        speaker = args.speaker or job.voices.speaker_of(args.lang)
        voice = job.voices.voice(speaker)
        reader = job.voices.reader(args.lang, speaker, args.style)
    speech = synthesizer.speak([synthesizer.text_ids(args.text, args.lang)], [args.lang], [voice],
                               readers=[reader], prompt=prompt, seed=job.recipe.seed,
                               styles=[args.style])[0]
    save_wav(args.out, speech.wav, synthesizer.audio.sample_rate_hz)
    print(f"{args.out}: {len(speech.wav) / synthesizer.audio.sample_rate_hz:.2f} s")


class Job:
    """Speaks sets into a folder of wavs."""

    def __init__(self, recipe: RecipeConfig, synthesizer: Synthesizer, folder: Path):
        self.recipe, self.synthesizer, self.folder = recipe, synthesizer, folder
        self.voices = Voices(recipe, synthesizer)

    def every_set(self) -> None:
        """Speak all test sets and sets of sentences of the recipe."""
        for name in self.recipe.corpus.tests:
            self.test_set(name)
        for name in self.recipe.corpus.sentences:
            self.sentences(name)

    def test_set(self, name: str) -> None:
        """Recording, copy and text-to-speech of a set, and some clips by voice prompt."""
        table = self._tables(name, "wav.scp")
        rate, config = self.recipe.audio.sample_rate_hz, self.recipe.synthesis
        wavs = {u: load_wav(w, rate) for u, w in table["wav.scp"].items()}
        self._manifest("recording", name, table, {u: len(w) / rate for u, w in wavs.items()},
                       {u: Path(table["wav.scp"][u]) for u in wavs})
        self._speak("copy", name, table, lambda utts: self.synthesizer.copy(
            [wavs[u] for u in utts], self._voices_of(table, utts), self.recipe.seed,
            self._styles(table, utts)))
        self._speak("tts", name, table, lambda utts: self._from_text(table, utts))
        self._by_prompt(name, table, list(wavs)[: config.prompt_clips])

    def _by_prompt(self, name: str, table: dict, utts: list[str]) -> None:
        """The same texts in the voice of one short recording; said plainly where none is."""
        if not utts:
            return
        speaker = table["utt2spk"][utts[0]]
        found = self.voices.prompt(speaker)
        if found is None:
            print(f"tts_prompt {name}: left out: no recording of {speaker} is shorter than "
                  f"synthesis.prompt_max_seconds")
            return
        prompt, voice, prompt_wav = found
        only = {k: {u: v[u] for u in utts if u in v and table["utt2spk"][u] == speaker}
                for k, v in table.items()}
        self._speak("tts_prompt", name, only, lambda some: self.synthesizer.speak(
            *self._texts(only, some), [voice] * len(some), prompt=prompt,
            seed=self.recipe.seed, styles=self._styles(only, some)), prompt_wav)

    def sentences(self, name: str) -> None:
        """Text-to-speech of a set that has texts only."""
        table = self._tables(name)
        self._speak("tts", name, table, lambda utts: self._from_text(table, utts))

    def _tables(self, name: str, *more: str) -> dict[str, dict[str, str]]:
        folder = self.recipe.dump(name)
        table = {f: read_table(folder / f) for f in ("text", "text_ids", "utt2lang", "utt2spk",
                                                     *more)}
        styled = self.synthesizer.system.config.style and (folder / "utt2emo").is_file()
        return {**table, "utt2emo": read_table(folder / "utt2emo") if styled else {}}

    def _styles(self, table: dict, utts: list[str]) -> list[str | None]:
        return [table["utt2emo"].get(u) for u in utts]

    def _texts(self, table: dict, utts: list[str]) -> tuple[list[list[int]], list[str]]:
        return ([[int(i) for i in table["text_ids"][u].split()] for u in utts],
                [table["utt2lang"][u] for u in utts])

    def _voices_of(self, table: dict, utts: list[str]) -> list[torch.Tensor]:
        return [self.voices.voice(table["utt2spk"][u]) for u in utts]

    def _from_text(self, table: dict, utts: list[str]) -> list[Speech]:
        styles = self._styles(table, utts)
        readers = [self.voices.reader(table["utt2lang"][u], table["utt2spk"][u], style)
                   for u, style in zip(utts, styles, strict=True)]
        return self.synthesizer.speak(*self._texts(table, utts), self._voices_of(table, utts),
                                      readers=readers, seed=self.recipe.seed, styles=styles)

    def _speak(self, system: str, name: str, table: dict,
               speak: Callable[[list[str]], list[Speech]], prompt_wav: str | None = None) -> None:
        folder, rate = self.folder / system / name, self.recipe.audio.sample_rate_hz
        seconds, spent, scores = {}, {}, {}
        # Similar lengths together: a batch costs what its longest row costs.
        order = sorted(table["text_ids"], key=lambda u: (len(table["text_ids"][u]), u))
        for utts in tqdm(list(_chunks(order, self.recipe.synthesis.batch)),
                         desc=f"{system} {name}", unit="batch"):
            start = time.perf_counter()
            for utt, speech in zip(utts, speak(utts), strict=True):
                save_wav(folder / f"{utt}.wav", speech.wav, rate)
                seconds[utt], scores[utt] = len(speech.wav) / rate, speech.score
            for utt in utts:
                spent[utt] = (time.perf_counter() - start) / len(utts)
        self._manifest(system, name, table, seconds, {u: folder / f"{u}.wav" for u in order},
                       spent, scores, prompt_wav)

    def _manifest(self, system: str, name: str, table: dict, seconds: dict[str, float],
                  wavs: dict[str, Path], spent: dict[str, float] | None = None,
                  scores: dict[str, float | None] | None = None,
                  prompt_wav: str | None = None) -> None:
        folder = self.folder / system / name
        lines = []
        for utt in sorted(wavs):
            speaker = table["utt2spk"][utt]
            score = (scores or {}).get(utt)
            lines.append(json.dumps({
                "utt": utt, "wav": _relative(wavs[utt], folder), "text": table["text"][utt],
                "lang": table["utt2lang"][utt], "speaker": speaker,
                "emotion": table["utt2emo"].get(utt, ""),
                "references": [_relative(Path(w), folder)
                               for w in self.voices.references(speaker)],
                "prompt": _relative(Path(prompt_wav), folder) if prompt_wav else None,
                "seconds": round(seconds[utt], 3),
                "synthesis_seconds": round((spent or {}).get(utt, 0.0), 4),
                "rm_nats": None if score is None or not np.isfinite(score) else round(score, 4),
            }, ensure_ascii=False))
        write_text(folder / "manifest.jsonl", "".join(line + "\n" for line in lines))


def count_tokens(job: Job, path: Path) -> None:
    """Codebook use over training recordings, evenly spread: counts, entropy, used share."""
    wavs = read_table(job.recipe.dump(job.recipe.corpus.train) / "wav.scp")
    utts = sorted(wavs)
    utts = utts[:: -(-len(utts) // COUNTED_UTTS)]
    size = job.synthesizer.system.tokenizer.codebook_size
    counts = torch.zeros(size, dtype=torch.long)
    rate = job.recipe.audio.sample_rate_hz
    for some in tqdm(list(_chunks(utts, 32)), desc="token usage", unit="batch"):
        for row in job.synthesizer.encode([load_wav(wavs[u], rate) for u in some]):
            counts += torch.bincount(row, minlength=size)
    p = counts.double() / counts.sum()
    write_text(path, json.dumps({
        "codebook_size": size, "tokens": int(counts.sum()), "counts": counts.tolist(),
        "entropy_bits": float(entropy_bits(p)),
        "used_share": float((counts > 0).double().mean())}) + "\n")


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path, folder)


def _chunks(items: list[str], size: int) -> Iterator[list[str]]:
    for i in range(0, len(items), size):
        yield items[i : i + size]
