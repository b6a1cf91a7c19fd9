"""Rows of a prepared set (``dump/<set>``). All chance comes from the element's seed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.utils.data import Dataset

from e2etts.audio import AudioConfig, log_mel
from e2etts.data.batch import MEL_PADDING, Item
from e2etts.data.codes import Codes, Rows, ark_entry, read_ark
from e2etts.data.datadir import read_table
from e2etts.data.noise import Noise, NoiseConfig
from e2etts.data.sampler import Element, Plan, speaker_repeats
from e2etts.data.vocab import Vocab
from e2etts.errors import UserError
from e2etts.seeds import mix


@dataclass(frozen=True, kw_only=True)
class CurriculumConfig:
    """Short rows first (SortaGrad, arXiv 1512.02595), in a random order: at the beginning rows of
    up to ``from_seconds``. The limit grows by the same factor with every batch, until there is none
    after ``epochs`` passes over the data, or that share of the first. A pass that ends without a
    limit has every utterance once, others leave out those beyond the limit at their end. Counted in
    passes and not in training progress: which batch is next must not depend on the clock."""

    from_seconds: float
    epochs: float = 1.0

    def __post_init__(self):
        if self.from_seconds <= 0 or self.epochs <= 0:
            raise ValueError("curriculum.from_seconds and .epochs must be more than 0")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How utterances become training examples.

    concat_probability: chance that an utterance is joined with others of its speaker (language
        and emotion), up to a length drawn between its own and concat_max_seconds.
    reference_max_seconds: longest stretch of another utterance of the speaker, whose embedding the
        models are conditioned on.
    crop_seconds: train on random stretches of this length; None for whole utterances.
    speaker_weights: pattern of speaker ids -> times an epoch that their utterances occur.
    curriculum: None for rows of all lengths from the beginning.
    noise: added to what is tokenised, in training and, always in the same way, in validation;
        the speaker reference and the samples given to a vocoder stay as they are.
    cached_tokens: of a stage whose tokenizer is frozen: speech tokens, and text positions by a
        frozen RM, are computed in one pass over the data and read from files in every step, here
        and in later stages (``stages.token_cache``). Joined utterances are then tokenised one by
        one. The pass pays for stages that see their data more than about twice.
    """

    concat_probability: float = 0.0
    concat_max_seconds: float = 8.0
    reference_max_seconds: float = 3.0
    crop_seconds: float | None = None
    speaker_weights: dict[str, float] = field(default_factory=dict)
    curriculum: CurriculumConfig | None = None
    noise: NoiseConfig | None = None
    cached_tokens: bool = False


class MelDataset(Dataset):
    """A prepared set, read lazily. Index it with an ``Element`` from a ``BatchSampler``.

    Raises UserError for a set that was not prepared, or whose files do not fit together.
    """

    def __init__(self, dump_set: str | Path, audio: AudioConfig, *,
                 config: DataConfig | None = None, vocab: Vocab | None = None,
                 with_wav: bool = False, with_mel: bool = True,
                 codes: tuple[str, int] | None = None):
        """codes: name and codebook size of an ark of speech tokens in the folder (``Codes``).
        with_mel: whether the mel of the utterance itself is read."""
        self.folder, self.audio, self.with_wav = Path(dump_set), audio, with_wav
        self.with_mel = with_mel
        self.config = config or DataConfig()
        self.vocab = vocab or Vocab.load(self.folder.parent)
        if not (self.folder / "mel.scp").is_file():
            raise UserError(f"{self.folder}/mel.scp: no such file: run the prepare stage "
                            "(--stage 2)")
        mels, frames, texts, speakers, languages = (read_table(self.folder / name) for name in (
            "mel.scp", "utt2num_frames", "text_ids", "utt2spk", "utt2lang"))
        if any(t.keys() != mels.keys() for t in (frames, texts, speakers, languages)):
            raise UserError(f"{self.folder}: its files do not name the same utterances: delete "
                            "the folder and run the prepare stage again")
        self.utts = list(mels)
        self.mels = [ark_entry(self.folder / "mel.scp", u, v) for u, v in mels.items()]
        self.frames = np.array([int(v) for v in frames.values()])
        self.texts = [np.array(v.split(), dtype=np.int64) for v in texts.values()]
        self.speakers = list(speakers.values())
        emotion_file = self.folder / "utt2emo"
        emotions = read_table(emotion_file) if emotion_file.is_file() else {}
        ids = {kind: {label: i for i, label in enumerate(getattr(self.vocab, kind))}
               for kind in ("speakers", "languages", "emotions")}
        self.labels = [
            (ids["languages"].get(languages[utt], -1), ids["speakers"].get(speakers[utt], -1),
             ids["emotions"].get(emotions.get(utt, ""), -1)) for utt in self.utts]
        self.groups = [(s, *labels) for s, labels in zip(self.speakers, self.labels, strict=True)]
        self.of_speaker: dict[str, list[int]] = {}
        for i, speaker in enumerate(self.speakers):
            self.of_speaker.setdefault(speaker, []).append(i)
        self.codes: Codes | None = None
        self.positions: Rows | None = None
        self.used_frames, per = self.frames, audio.frames_per_token
        if codes is not None:  # an utterance is as long as its tokens
            self.codes = Codes(self.folder, codes[0], self.utts, codes[1])
            counts = self.codes.lengths(dict(zip(self.utts, self.frames.tolist(), strict=True)),
                                        per)
            self.used_frames = np.array(counts) * per
        elif self.config.cached_tokens:
            self.used_frames = self.frames + -self.frames % per
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

    def read_cache(self, codes: Codes | None, positions: Rows | None) -> None:
        """From now on rows have tokens, and text positions, of these files (None: as before)."""
        self.codes, self.positions = codes or self.codes, positions

    def __getitem__(self, element: Element) -> Item:
        random = np.random.default_rng(element.seed)
        reference = self._reference(element, random)
        first = element.utts[0]
        language, speaker, emotion = self.labels[first]
        if self.crop_frames is not None and self.used_frames[first] > self.crop_frames:
            # Where tokens come from files, a crop begins with one of them.
            step = self.audio.frames_per_token if self.codes else 1
            choices = (self.used_frames[first] - self.crop_frames) // step + 1
            start = step * int(random.integers(choices))
            parts = [(first, start, start + self.crop_frames)]
        else:
            parts = [(i, 0, int(self.used_frames[i])) for i in element.utts]
        frames = sum(b - a for _, a, b in parts)
        frames += -frames % self.audio.frames_per_token
        wav = self._wav(parts, frames) if self.with_wav or self.noise else None
        mel = None
        if self.with_mel:
            mel = np.concatenate([_stretch(self._mel(i), a, b) for i, a, b in parts])
            mel = self._noisy(torch.from_numpy(_stretch(mel, 0, frames)), wav, element)
        return Item(
            utt="+".join(self.utts[i] for i in element.utts), frames=frames, mel=mel,
            text=self._text(element.utts), language=language, speaker=speaker, emotion=emotion,
            reference_mel=torch.from_numpy(reference),
            codes=self._of_tokens(self.codes, parts, [0] * len(parts)),
            positions=self._of_tokens(self.positions, parts, self._text_starts(element.utts)),
            wav=wav if self.with_wav else None)

    def plan(self, batch_seconds: float, *, training: bool) -> Plan:
        """What a sampler needs; joining and speaker weights are for training only."""
        config, rate = self.config, self.audio.frame_rate_hz
        frames = self.used_frames
        if self.crop_frames is not None:
            frames = np.minimum(frames, self.crop_frames)
        joined = training and self.crop_frames is None
        limits = {}
        if training and config.curriculum:
            limits = {"curriculum_frames": config.curriculum.from_seconds * rate,
                      "curriculum_epochs": config.curriculum.epochs}
        return Plan(
            utts=self.utts, frames=frames.tolist(), groups=self.groups,
            repeats=speaker_repeats(self.speakers, config.speaker_weights if training else {}),
            budget_frames=int(batch_seconds * rate),
            concat_probability=config.concat_probability if joined else 0.0,
            concat_max_frames=int(config.concat_max_seconds * rate),
            round_to=self.audio.frames_per_token, **limits)

    def _mel(self, i: int) -> np.ndarray:
        mel = read_ark(self.mels[i], f"'{self.utts[i]}'",
                       f"delete {self.folder} and run the prepare stage again")
        if mel.shape != (self.frames[i], self.audio.mel_bands):
            raise UserError(f"{self.mels[i]}: '{self.utts[i]}' has shape {mel.shape}, expected "
                            f"{(int(self.frames[i]), self.audio.mel_bands)}: run the prepare "
                            "stage again")
        return mel

    def _reference(self, element: Element, random: np.random.Generator) -> np.ndarray:
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
        longest = max(1, int(self.config.reference_max_seconds * self.audio.frame_rate_hz))
        start = int(random.integers(max(1, len(mel) - longest + 1)))
        return mel[start : start + longest].copy()

    def _of_tokens(self, rows: Codes | Rows | None, parts: list[tuple[int, int, int]],
                   added: list[int]) -> Tensor | None:
        """(N,) rows of parts (utterance, first frame, last), to each of which something is added.
        Raises UserError for a row that is not as long as its mel."""
        if rows is None:
            return None
        per, out = self.audio.frames_per_token, []
        for (i, a, b), more in zip(parts, added, strict=True):
            row = rows.row(self.utts[i])
            if len(row) * per != self.used_frames[i]:
                raise UserError(f"{rows.scp}: '{self.utts[i]}' has {len(row)} tokens, its mel "
                                f"{self.used_frames[i]} frames: delete this file and run again")
            out.append(row[a // per : b // per] + more)
        return torch.from_numpy(np.concatenate(out))

    def _text_starts(self, utts: Sequence[int]) -> list[int]:
        """Index in ``_text`` at which the text of each utterance starts."""
        sizes = [len(self.texts[i]) + len(self.vocab.space) for i in utts]
        return [sum(sizes[:n]) for n in range(len(utts))]

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
        """(frames * hop,) samples of parts (utterance, first frame, last), then silence."""
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


def _stretch(mel: np.ndarray, start: int, end: int) -> np.ndarray:
    """Frames start to end of a mel (T, M), silence where it is over."""
    missing = max(0, end - len(mel))
    return np.pad(mel[start:end], ((0, missing), (0, 0)), constant_values=MEL_PADDING)
