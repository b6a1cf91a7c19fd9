"""Stage 2: data directories -> ``dump/``: text tokens, mel spectrograms, labels and scalars."""

import contextlib
import hashlib
import json
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np
import torch
from tqdm import tqdm

from e2etts.audio import AudioConfig, load_wav, log_mel
from e2etts.config import fingerprint, to_dict
from e2etts.data.datadir import AudioSpan, DataDir, read_table, write_table
from e2etts.data.recordings import cut
from e2etts.data.texts import spoken_texts
from e2etts.data.vocab import Vocab, token_ratios
from e2etts.data.workers import in_order
from e2etts.data.zero_shot import check_zero_shot
from e2etts.errors import UserError
from e2etts.files import files_sha256, replaced_folder, write_text
from e2etts.text import TextConfig, TextTokenizer

FORMAT = 1
_SPEECH_RANGE = 4.6  # natural log: frames within 40 dB of the loudest count as speech
_STAMP = "stamp.json"


@dataclass
class _Set:
    """One set on its way: what is kept, and why the rest is not."""

    name: str
    data: DataDir
    stamp: str
    texts: dict[str, str] = field(default_factory=dict)
    frames: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    sums: np.ndarray = field(default_factory=lambda: np.zeros(3))  # count, sum, sum of squares
    seconds: Counter[str] = field(default_factory=Counter)  # what was done -> time it took

    @property
    def kept(self) -> list[str]:
        return [u for u in self.data.utts if u not in self.skipped]

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.seconds[what] += time.monotonic() - begin


def prepare(
    data: str | Path, dump: str | Path, *, train: str, sets: list[str], audio: AudioConfig,
    text: TextConfig, workers: int = 2, extends: str | Path | None = None,
    zero_shot: Collection[str] = (),
) -> None:
    """Bring ``dump/<set>`` up to date for the train set and every other one of ``sets``.

    The text model, the labels and the mel scalars come from the train set alone; with ``extends``,
    the dump of a trained system, its own come first and its mel scalars stay. A set whose
    inputs and settings are unchanged is left alone. zero_shot: those of ``sets`` whose voices
    training must not have. Raises UserError for missing or unreadable input, for a set of which
    nothing is left, and for a zero-shot set that is none; utterances without usable text or sound
    are listed with the reason in ``dump/<set>/skipped``.
    """
    data, dump = Path(data), Path(dump)
    builder = _Builder(data, dump, audio, text, workers, extends and Path(extends))
    for name in zero_shot:
        check_zero_shot(data / name, data / train, builder.vocab_before)
    model = builder.train_set(train)
    builder.vocabulary(train, model).save(dump)
    for name in sets:
        if name != train:
            builder.other_set(name, model)


class _Builder:
    """Makes the sets of one dump, each unless it is up to date."""

    def __init__(self, data: Path, dump: Path, audio: AudioConfig, text: TextConfig,
                 workers: int, extends: Path | None):
        self.data, self.dump, self.audio, self.text = data, dump, audio, text
        self.workers, self.extends = workers, extends
        self.vocab_before = Vocab.load(extends) if extends else None
        if extends:
            self.model_before = TextTokenizer.load(extends / "text.model")

    def train_set(self, name: str) -> TextTokenizer:
        """Makes the train set, and the text model of its texts, which it returns."""
        path = self.dump / "text.model"
        before = ""
        if self.extends:
            before = files_sha256([self.extends / "text.model", self.extends / "vocab.json"])
        one = self._load(name, before, need_wav=True)
        if (self._up_to_date(one) and path.is_file()
                and self._stamp(name)["text_model"] == files_sha256([path])):
            return TextTokenizer.load(path)
        with replaced_folder(self.dump / name) as part:
            with one.timed("text"):
                self._texts(one)
            with one.timed("mel"):
                self._mels(one, part)
            with one.timed("text model"):
                texts = [one.texts[u] for u in one.kept]
                model = (self.model_before.grown(texts) if self.extends
                         else TextTokenizer.train(texts, self.text))
            model.save(path)
            with one.timed("tables"):
                self._tables(one, part, model)
            mean, std = _mean_std(one)
            self._finish(one, part, mel_mean=mean, mel_std=std, text_model=files_sha256([path]))
        return model

    def other_set(self, name: str, model: TextTokenizer) -> None:
        """Makes a set that is read with the train set's text model."""
        one = self._load(name, files_sha256([self.dump / "text.model"]), need_wav=False)
        if self._up_to_date(one):
            return
        model.unknown.clear()
        with replaced_folder(self.dump / name) as part:
            with one.timed("text"):
                self._texts(one)
            if one.data.wav:
                with one.timed("mel"):
                    self._mels(one, part)
            with one.timed("tables"):
                self._tables(one, part, model)
            self._finish(one, part)
        if model.unknown:
            print(f"{name}: symbols that the train set lacks, read as unknown: " +
                  " ".join(f"{c} ({n})" for c, n in model.unknown.most_common()))

    def vocabulary(self, train: str, model: TextTokenizer) -> Vocab:
        """Labels and scalars of the train set, behind those of the dump that is extended."""
        folder = self.dump / train
        stamp = self._stamp(train)
        labels = {
            kind: sorted(set(read_table(folder / file).values()))
            if (folder / file).is_file() else []
            for kind, file in (("speakers", "utt2spk"), ("languages", "utt2lang"),
                               ("emotions", "utt2emo"))}
        frames = sum(map(int, read_table(folder / "utt2num_frames").values()))
        tokens = sum(len(ids.split()) for ids in read_table(folder / "text_ids").values())
        scalars = {k: stamp[k] for k in ("mel_mean", "mel_std")}
        scalars["mean_tokens_per_text_token"] = round(
            frames / self.audio.frames_per_token / tokens, 3)
        ratios = token_ratios(folder, self.audio.frames_per_token)
        if self.extends:
            before = self.vocab_before.tokens_per_text_token or ratios
            ratios = [min(before[0], ratios[0]), max(before[1], ratios[1])]
            scalars = {k: getattr(self.vocab_before, k) for k in scalars}
            for kind, found in labels.items():
                old = getattr(self.vocab_before, kind)
                labels[kind] = old + [label for label in found if label not in old]
        texts = list(read_table(folder / "text_norm").values())
        return Vocab(**labels, **scalars, text_size=len(model), tokens_per_text_token=ratios,
                     space=space_between(model, texts[0], texts[-1]))

    def _load(self, name: str, text_model: str, need_wav: bool) -> _Set:
        data = DataDir.load(self.data / name, need_wav=need_wav)
        wavs = hashlib.sha256()
        for number, path in enumerate(data.wav.values(), start=1):
            try:
                status = Path(path).stat()
            except OSError as e:
                raise UserError(f"{self.data / name}/wav.scp:{number}: {path}: {e.strerror}: run "
                                "the data stage again (--stage 1)") from e
            wavs.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
        files = sorted(p for p in (self.data / name).iterdir() if p.is_file())
        return _Set(name, data, fingerprint({
            "format": FORMAT, "audio": to_dict(self.audio), "text": to_dict(self.text),
            "text_model": text_model, "files": files_sha256(files), "wavs": wavs.hexdigest()}))

    def _stamp(self, name: str) -> dict[str, Any]:
        try:
            return json.loads((self.dump / name / _STAMP).read_text())
        except (OSError, ValueError):
            return {}

    def _up_to_date(self, one: _Set) -> bool:
        stamp = self._stamp(one.name)
        if stamp.get("stamp") != one.stamp:
            return False
        print(f"{one.name}: up to date: {stamp['summary']}")
        return True

    def _texts(self, one: _Set) -> None:
        """Fills ``texts``; an utterance whose text has no words is skipped."""
        one.texts, wrong = spoken_texts(one.data, self.data / one.name,
                                        phonemes=self.text.phonemes, workers=self.workers)
        one.skipped |= {utt: f"text: {reason}" for utt, reason in wrong.items()}

    def _mels(self, one: _Set, part: Path) -> None:
        """Writes mel.ark and mel.scp, and the wavs of segments; fills ``frames`` and the sums for
        mean and deviation."""
        jobs = [(u, one.data.source(u)) for u in one.kept]
        cut_to = part / "wav" if one.data.segments else None
        work = partial(_mel, audio=self.audio, cut_to=cut_to)
        with kaldiio.WriteHelper(f"ark,scp:{part}/mel.ark,{part}/mel.scp") as writer:
            for utt, mel in tqdm(in_order(work, jobs, self.workers), desc=f"{one.name}: mel",
                                 total=len(jobs), unit="utt"):
                if len(mel) < self.audio.frames_per_token:
                    one.skipped[utt] = f"audio: {len(mel)} frames, less than one token"
                elif not np.isfinite(mel).all():
                    one.skipped[utt] = "audio: samples that are not numbers"
                else:
                    writer(utt, mel)
                    one.frames[utt] = len(mel)
                    loud = mel.mean(axis=1)
                    speech = mel[loud > loud.max() - _SPEECH_RANGE].astype(np.float64)
                    one.sums += [speech.size, speech.sum(), np.square(speech).sum()]
        final = self.dump / one.name / "mel.ark"
        if one.frames:
            write_table(part / "mel.scp", {
                u: f"{final}:{v.rpartition(':')[2]}"
                for u, v in read_table(part / "mel.scp").items()})

    def _tables(self, one: _Set, part: Path, model: TextTokenizer) -> None:
        if not one.kept:
            reason = next(iter(one.skipped.values()))
            raise UserError(f"{self.data / one.name}: none of its {len(one.data)} utterances can "
                            f"be used, the first because of {reason}")
        kept = one.data.subset(one.kept)
        if kept.segments:
            wavs = {u: str(self.dump / one.name / "wav" / f"{u}.wav") for u in one.kept}
            kept = replace(kept, wav=wavs, segments={})
        kept.save(part)
        texts = {u: one.texts[u] for u in one.kept}
        write_table(part / "text_norm", texts)
        write_table(part / "text_ids", {
            u: " ".join(map(str, model.encode(t))) for u, t in texts.items()})
        if one.data.wav:
            write_table(part / "utt2num_frames", {u: str(one.frames[u]) for u in one.kept})
        lost = {u: f"prompt: {p} is skipped, so this is not spoken" for u, p in
                one.data.utt2prompt.items() if u in kept.text and p not in kept.text}
        write_text(part / "skipped", "".join(
            f"{u} {r}\n" for u, r in sorted({**one.skipped, **lost}.items())))

    def _finish(self, one: _Set, part: Path, **more: Any) -> None:
        hours = sum(one.frames.values()) / self.audio.frame_rate_hz / 3600
        length = f", {hours:.2f} h" if one.data.wav else ""
        summary = f"{len(one.kept)} utterances{length}, {len(one.skipped)} skipped"
        write_text(part / _STAMP, json.dumps(
            {"stamp": one.stamp, "summary": summary, **more}, indent=1) + "\n")
        took = ", ".join(f"{what} {seconds:.0f} s" for what, seconds in one.seconds.items())
        print(f"{one.name}: {self.data / one.name} -> {self.dump / one.name}: {summary} ({took})")


def space_between(model: TextTokenizer, first: str, second: str) -> list[int]:
    """Token ids that stand between two texts when they are encoded as one."""
    a, b, both = (model.encode(t) for t in (first, second, f"{first} {second}"))
    between = both[len(a) : len(both) - len(b)]
    return between if a + between + b == both else []


def _mel(job: tuple[str, AudioSpan], audio: AudioConfig,
         cut_to: Path | None) -> tuple[str, np.ndarray]:
    utt, source = job
    if cut_to is None:
        wav = load_wav(source.path, audio.sample_rate_hz)
    else:
        wav = cut(source, cut_to / f"{utt}.wav", audio.sample_rate_hz)
    if len(wav) < audio.hop_samples:
        return utt, np.zeros((0, audio.mel_bands), np.float32)
    return utt, log_mel(torch.from_numpy(wav), audio).numpy()


def _mean_std(one: _Set) -> tuple[float, float]:
    count, total, squares = one.sums
    mean = total / count
    return float(mean), float(np.sqrt(max(squares / count - mean**2, 1e-8)))

