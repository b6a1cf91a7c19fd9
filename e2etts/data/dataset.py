"""From a prepared set (``dump/<set>``) to batches. All chance comes from the element's seed."""

import math
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import kaldiio
import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from e2etts.audio import LOG_FLOOR, AudioConfig, log_mel
from e2etts.data.batch import Batch
from e2etts.data.datadir import is_command, read_table
from e2etts.data.noise import Noise, NoiseConfig
from e2etts.data.sampler import BatchSampler, Cursor, Element, Plan, mix, speaker_repeats
from e2etts.data.vocab import Vocab
from e2etts.errors import UserError

MEL_PADDING = math.log(LOG_FLOOR)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How utterances become training examples.

    concat_probability: chance that an utterance is joined with others of its speaker (language
        and emotion), up to a length drawn between its own and concat_max_seconds.
    voice_max_seconds: longest stretch of another utterance of the speaker given as reference.
    crop_seconds: train on random stretches of this length; None for whole utterances.
    speaker_weights: pattern of speaker ids -> times an epoch that their utterances occur.
    noise: added to what is tokenised, in training and, always in the same way, in validation;
        the voice reference and the samples given to a vocoder stay as they are.
    """

    concat_probability: float = 0.0
    concat_max_seconds: float = 8.0
    voice_max_seconds: float = 3.0
    crop_seconds: float | None = None
    speaker_weights: dict[str, float] = field(default_factory=dict)
    noise: NoiseConfig | None = None


@dataclass(frozen=True, kw_only=True)
class Item:
    """One row before padding; see ``Batch``. mel: (T, M), voice_mel: (T', M), wav: (S,)."""

    utt: str
    mel: Tensor
    text: Tensor
    language: int
    speaker: int
    emotion: int
    voice_mel: Tensor
    wav: Tensor | None


class MelDataset(Dataset):
    """A prepared set, read lazily. Index it with an ``Element`` from a ``BatchSampler``.

    Raises UserError for a set that was not prepared, or whose files do not fit together.
    """

    def __init__(self, dump_set: str | Path, audio: AudioConfig, *,
                 config: DataConfig | None = None, vocab: Vocab | None = None,
                 with_wav: bool = False):
        self.folder, self.audio, self.with_wav = Path(dump_set), audio, with_wav
        self.config = config or DataConfig()
        self.vocab = vocab or Vocab.load(self.folder.parent)
        if not (self.folder / "mel.scp").is_file():
            raise UserError(f"{self.folder}/mel.scp: no such file: run the prepare stage "
                            "(--stage 2)")
        tables = [read_table(self.folder / name) for name in (
            "mel.scp", "utt2num_frames", "text_ids", "utt2spk", "utt2lang")]
        if any(t.keys() != tables[0].keys() for t in tables):
            raise UserError(f"{self.folder}: its files do not name the same utterances: delete "
                            "the folder and run the prepare stage again")
        self.utts = list(tables[0])
        self.mels = [self._ark(u, v) for u, v in tables[0].items()]
        self.frames = np.array([int(v) for v in tables[1].values()])
        self.texts = [np.array(v.split(), dtype=np.int64) for v in tables[2].values()]
        self.speakers, languages = list(tables[3].values()), list(tables[4].values())
        emotion_file = self.folder / "utt2emo"
        emotions = read_table(emotion_file) if emotion_file.is_file() else {}
        place = {kind: {label: i for i, label in enumerate(getattr(self.vocab, kind))}
                 for kind in ("speakers", "languages", "emotions")}
        self.labels = [
            (place["languages"].get(lang, -1), place["speakers"].get(speaker, -1),
             place["emotions"].get(emotions.get(utt, ""), -1))
            for utt, speaker, lang in zip(self.utts, self.speakers, languages, strict=True)]
        self.groups = [(s, *labels) for s, labels in zip(self.speakers, self.labels, strict=True)]
        self.of_speaker: dict[str, list[int]] = {}
        for i, speaker in enumerate(self.speakers):
            self.of_speaker.setdefault(speaker, []).append(i)
        self.noise = Noise(self.config.noise, audio.sample_rate_hz) if self.config.noise else None
        self.wavs: list[str] = []
        if with_wav or self.noise:
            self.wavs = list(read_table(self.folder / "wav.scp").values())
        self.crop_frames = None
        if self.config.crop_seconds is not None:
            tokens = max(1, round(self.config.crop_seconds * audio.token_rate_hz))
            self.crop_frames = tokens * audio.frames_per_token

    def __len__(self) -> int:
        return len(self.utts)

    def __getitem__(self, element: Element) -> Item:
        random = np.random.default_rng(element.seed)
        voice = self._voice(element, random)
        first = element.utts[0]
        language, speaker, emotion = self.labels[first]
        if self.crop_frames is not None and self.frames[first] > self.crop_frames:
            start = int(random.integers(self.frames[first] - self.crop_frames + 1))
            parts = [(first, start, start + self.crop_frames)]
        else:
            parts = [(i, 0, int(self.frames[i])) for i in element.utts]
        mel = np.concatenate([self._mel(i)[a:b] for i, a, b in parts])
        missing = -len(mel) % self.audio.frames_per_token
        mel = np.pad(mel, ((0, missing), (0, 0)), constant_values=MEL_PADDING)
        wav = self._wav(parts, len(mel)) if self.with_wav or self.noise else None
        return Item(
            utt="+".join(self.utts[i] for i in element.utts),
            mel=self._noisy(torch.from_numpy(mel), wav, element),
            text=self._text(element.utts), language=language, speaker=speaker, emotion=emotion,
            voice_mel=torch.from_numpy(voice), wav=wav if self.with_wav else None)

    def plan(self, batch_seconds: float, *, training: bool) -> Plan:
        """What a sampler needs; joining and speaker weights are for training only."""
        config, rate = self.config, self.audio.frame_rate_hz
        frames = self.frames
        if self.crop_frames is not None:
            frames = np.minimum(frames, self.crop_frames)
        joined = training and self.crop_frames is None
        return Plan(
            utts=self.utts, frames=frames.tolist(), groups=self.groups,
            repeats=speaker_repeats(self.speakers, config.speaker_weights if training else {}),
            budget_frames=int(batch_seconds * rate),
            concat_probability=config.concat_probability if joined else 0.0,
            concat_max_frames=int(config.concat_max_seconds * rate),
            round_to=self.audio.frames_per_token)

    def _ark(self, utt: str, value: str) -> str:
        if is_command(value):
            raise UserError(f"{self.folder}/mel.scp: '{utt}' is a command; only ark files are read")
        path, _, offset = value.rpartition(":")
        return f"{self.folder / Path(path).name}:{offset}"

    def _mel(self, i: int) -> np.ndarray:
        try:
            mel = kaldiio.load_mat(self.mels[i])
        except Exception as e:  # kaldiio has no error of its own for damaged files
            what = " ".join(str(e).split()) or "damaged"
            raise UserError(f"{self.mels[i]}: cannot read '{self.utts[i]}' ({what}): delete "
                            f"{self.folder} and run the prepare stage again") from e
        if mel.shape != (self.frames[i], self.audio.mel_bands):
            raise UserError(f"{self.mels[i]}: '{self.utts[i]}' has shape {mel.shape}, expected "
                            f"{(int(self.frames[i]), self.audio.mel_bands)}: run the prepare "
                            "stage again")
        return mel

    def _voice(self, element: Element, random: np.random.Generator) -> np.ndarray:
        """Mel of another utterance of the speaker; of its own where there is no other."""
        mates = self.of_speaker[self.speakers[element.utts[0]]]
        if len(mates) > 2 * len(element.utts):
            chosen = mates[random.integers(len(mates))]
            while chosen in element.utts:
                chosen = mates[random.integers(len(mates))]
        else:
            others = [i for i in mates if i not in element.utts] or mates
            chosen = others[random.integers(len(others))]
        mel = self._mel(chosen)
        longest = max(1, int(self.config.voice_max_seconds * self.audio.frame_rate_hz))
        start = int(random.integers(max(1, len(mel) - longest + 1)))
        return mel[start : start + longest].copy()

    def _text(self, utts: Sequence[int]) -> Tensor:
        space = np.array(self.vocab.space, dtype=np.int64)
        parts = [self.texts[utts[0]]]
        for i in utts[1:]:
            parts += [space, self.texts[i]]
        return torch.from_numpy(np.concatenate(parts))

    def _noisy(self, mel: Tensor, wav: Tensor | None, element: Element) -> Tensor:
        """The mel (T, M) of ``wav`` with noise, or ``mel`` itself. What is drawn for the noise
        comes from a seed of its own, so that all else of the row is as without it."""
        if self.noise is None:
            return mel
        first = element.utts[0]
        speaker = self.speakers[first]

        def clip(random: np.random.Generator) -> np.ndarray:
            others = [s for s in self.of_speaker if s != speaker] or [speaker]
            some = self.of_speaker[others[random.integers(len(others))]]
            i = some[random.integers(len(some))]
            return self._wav([(i, 0, int(self.frames[i]))], int(self.frames[i])).numpy()

        random = np.random.default_rng(mix(element.seed, "noise"))
        noise = self.noise.draw(wav.numpy(), random, clip)
        return log_mel(wav + torch.from_numpy(noise), self.audio) if noise.any() else mel

    def _wav(self, parts: list[tuple[int, int, int]], frames: int) -> Tensor:
        hop = self.audio.hop_samples
        out = torch.zeros(frames * hop)
        place = 0
        for i, start, end in parts:
            try:
                wav, rate = soundfile.read(self.wavs[i], (end - start) * hop, start * hop,
                                           dtype="float32")
            except (OSError, soundfile.SoundFileError) as e:
                raise UserError(f"{self.wavs[i]}: cannot read audio ('{self.utts[i]}'): {e}") from e
            if rate != self.audio.sample_rate_hz or wav.shape != ((end - start) * hop,):
                raise UserError(f"{self.wavs[i]}: changed since it was prepared: run the prepare "
                                "stage again (--stage 2)")
            out[place : place + len(wav)] = torch.from_numpy(wav)
            place += len(wav)
        return out


def collate(items: list[Item]) -> Batch:
    """Pad to the longest row: mel with silence, text and samples with zeros."""
    def lengths(rows: Iterable[Tensor]) -> Tensor:
        return torch.tensor([len(r) for r in rows])

    def padded(rows: list[Tensor], value: float = 0.0) -> Tensor:
        return pad_sequence(rows, batch_first=True, padding_value=value)

    mels, texts = [i.mel for i in items], [i.text for i in items]
    voices, wavs = [i.voice_mel for i in items], [i.wav for i in items if i.wav is not None]
    return Batch(
        utts=[i.utt for i in items], mel=padded(mels, MEL_PADDING), mel_lens=lengths(mels),
        text=padded(texts), text_lens=lengths(texts),
        language=torch.tensor([i.language for i in items]),
        speaker=torch.tensor([i.speaker for i in items]),
        emotion=torch.tensor([i.emotion for i in items]),
        voice_mel=padded(voices, MEL_PADDING), voice_lens=lengths(voices),
        wav=padded(wavs) if wavs else None)


def training_stream(
    dataset: MelDataset, batch_seconds: float, *, seed: int, workers: int = 1,
) -> Callable[..., Iterator[tuple[Batch, Cursor]]]:
    """What ``Trainer`` takes as ``train``: ``stream(cursor, rank, ranks)`` yields (batch, cursor
    after it) without end.

    Raises UserError for utterances longer than batch_seconds.
    """
    plan = dataset.plan(batch_seconds, training=True)
    BatchSampler(plan, seed=seed)

    def stream(cursor: Cursor, rank: int = 0, ranks: int = 1) -> Iterator[tuple[Batch, Cursor]]:
        sampler = BatchSampler(plan, seed=seed, rank=rank, ranks=ranks)
        loader = _loader(dataset, _From(sampler, cursor), workers)
        try:
            yield from zip(loader, sampler.cursors_from(*cursor), strict=False)
        except UserError as e:  # a worker process wraps it into its traceback
            raise UserError(str(e).rpartition("UserError: ")[2].strip()) from e

    return stream


def dev_batches(dataset: MelDataset, batch_seconds: float) -> Callable[[], Iterable[Batch]]:
    """What ``Trainer`` takes as ``dev``: the same batches in the same order at every call."""
    plan = dataset.plan(batch_seconds, training=False)
    longest = max(plan.frames, default=0) + plan.round_to
    rows = sorted(range(len(dataset)), key=lambda i: plan.frames[i])
    batches: list[list[Element]] = [[]]
    for i in rows:
        size = plan.frames[i] + -plan.frames[i] % plan.round_to
        if batches[-1] and size * (len(batches[-1]) + 1) > max(plan.budget_frames, longest):
            batches.append([])
        batches[-1].append(Element((i,), mix("dev", dataset.utts[i])))
    return lambda: _loader(dataset, batches, 0)


class _From:
    """Batches of a sampler from a cursor on, as an iterable that a DataLoader takes."""

    def __init__(self, sampler: BatchSampler, cursor: Cursor):
        self.sampler, self.cursor = sampler, cursor

    def __iter__(self) -> Iterator[list[Element]]:
        return self.sampler.batches_from(*self.cursor)


def _loader(dataset: MelDataset, batches: Iterable[list[Element]], workers: int) -> DataLoader:
    method = "fork" if workers and "fork" in multiprocessing.get_all_start_methods() else None
    return DataLoader(
        dataset, batch_sampler=batches, collate_fn=collate, num_workers=workers,
        prefetch_factor=4 if workers else None, persistent_workers=bool(workers),
        pin_memory=torch.cuda.is_available(), worker_init_fn=_start_worker,
        multiprocessing_context=method)


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    # The main process decides when to stop: requests to its whole group must not end a worker.
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
