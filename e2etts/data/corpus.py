"""Data preparation (stage 1) shared by the recipes for published corpora.

A recipe's local/prepare_data.py defines the download address, the layout on disk and the split of
its corpus. This module resamples audio to the recipe's sample rate, compares sizes with the
published ones, drops and lists unusable utterances, and writes the data directories.
"""

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from e2etts.audio import AudioConfig
from e2etts.config import build, merge, parse_overrides, read_yaml
from e2etts.data.datadir import AudioSpan, DataDir
from e2etts.data.download import Archive, fetch_archive, unpack, unpacked
from e2etts.data.recordings import header, read_mono, write_wav
from e2etts.data.summary import Published, Size, compare_sizes
from e2etts.data.workers import in_order
from e2etts.errors import UserError
from e2etts.files import write_text
from e2etts.seeds import mix

_RMS_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """One utterance. wav: any file that libsndfile reads; seconds: set by ``usable``."""

    utt: str
    wav: str
    text: str
    speaker: str
    lang: str
    emotion: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class CorpusData:
    """Common settings of ``corpus_data``; each recipe adds its own.

    miniature: accept a corpus that differs from the published size. seconds,
    characters_per_second: range of usable utterances. dev_utts, test_utts: size of each of these
    sets, a random choice by seed. enrol_utts: enrolment recordings of each test speaker unseen in
    training; they are excluded from the test set.
    """

    miniature: bool = False
    seed: int = 0
    workers: int = 8
    seconds: tuple[float, float] = (0.5, 30.0)
    characters_per_second: tuple[float, float] = (1.0, 40.0)
    dev_utts: int = 500
    test_utts: int = 500
    enrol_utts: int = 5


@dataclass
class Job:
    """One run of stage 1 in a recipe's folder. config: the recipe's own ``CorpusData``."""

    config: Any
    audio: AudioConfig
    data: Path
    corpus_dir: Path | None = None
    left_out: list[tuple[str, str]] = field(default_factory=list)

    @property
    def wav_folder(self) -> Path:
        """Folder of converted audio, shared by all sets."""
        return Path(f"data/wav/{self.audio.sample_rate_hz}hz")

    def corpus(self, folder: str, archives: Iterable[Archive], how_to_get: str = "",
               unpack_to: str = "") -> Path:
        """The folder of the corpus: --corpus_dir (or ``folder`` in it), else ``folder`` in
        downloads/, after downloading and unpacking the archives (into ``unpack_to``).

        Raises UserError with ``how_to_get`` for a corpus without a public download.
        """
        if self.corpus_dir is not None:
            if not self.corpus_dir.is_dir():
                raise UserError(f"--corpus_dir {self.corpus_dir}: no such folder")
            inner = self.corpus_dir / folder
            return inner if inner.is_dir() else self.corpus_dir
        if how_to_get:
            raise UserError(f"{how_to_get}; then pass its folder: --corpus_dir FOLDER")
        downloads = Path("downloads")
        for archive in archives:
            if not unpacked(archive.name, downloads / unpack_to).exists():
                unpack(fetch_archive(archive, downloads), downloads / unpack_to)
        return downloads / folder

    def usable(self, parts: dict[str, list[Recording]], published: dict[str, Published],
               trim_below_peak_db: float | None = None) -> dict[str, list[Recording]]:
        """Select usable recordings, with durations, converted to mono at the recipe's sample rate.
        Audio that already matches is used in place.

        trim_below_peak_db: trim edges this far below the loudest 20 ms, keeping 0.1 s.
        published: sizes by part, and of all parts under "all". Prints sizes; raises UserError
        if they differ from the published ones, unless ``miniature`` is set.
        """
        folder = self.wav_folder
        if trim_below_peak_db is not None:
            folder /= f"trimmed-{trim_below_peak_db:g}db"
        work = partial(_ready, folder=folder, sample_rate_hz=self.audio.sample_rate_hz,
                       trim_below_peak_db=trim_below_peak_db)
        good, sizes, seen = {}, [], set()
        for name, recordings in parts.items():
            if not recordings:
                raise UserError(f"{name}: no recordings: is --corpus_dir the right folder?")
            found = tqdm(in_order(work, recordings, self.config.workers, chunk=64), desc=name,
                         total=len(recordings), unit="utt", mininterval=2.0,
                         disable=len(recordings) < 500)
            good[name], hours = [], 0.0
            for recording, original_seconds, reason in found:
                hours += original_seconds / 3600
                if recording.utt in seen:
                    reason = "id occurs twice"
                seen.add(recording.utt)
                if reason := reason or self._why_not(recording):
                    self.left_out.append((recording.utt, reason))
                else:
                    good[name].append(recording)
            speakers = len({r.speaker for r in recordings})
            sizes.append((name, Size(len(recordings), hours, speakers)))
        if "all" in published:
            speakers = len({r.speaker for recordings in parts.values() for r in recordings})
            sizes.append(("all", Size(sum(s.utterances for _, s in sizes),
                                      sum(s.hours for _, s in sizes), speakers)))
        wrong = compare_sizes(sizes, published)
        if wrong and not self.config.miniature:
            raise UserError(f"{', '.join(wrong)}: not the published size: get the corpus again, "
                            "or set corpus_data.miniature=true to accept this size")
        return good

    def _why_not(self, r: Recording) -> str:
        low, high = self.config.seconds
        if not low <= r.seconds <= high:
            return f"{r.seconds:.1f} s, expected {low:g} to {high:g}"
        if not r.text.strip():
            return "no text"
        if "\N{REPLACEMENT CHARACTER}" in r.text:
            return "text: bytes of an unknown encoding"
        low, high = self.config.characters_per_second
        rate = len(r.text) / r.seconds
        return "" if low <= rate <= high else (
            f"{rate:.1f} characters a second, expected {low:g} to {high:g}: text and audio differ")

    def hold_out(self, pool: list[Recording], utts: int,
                 known: set[str]) -> tuple[list[Recording], list[Recording]]:
        """Draw (``utts`` recordings of the pool, enrolment recordings of their speakers that are
        not in ``known``). The choice depends only on the seed and the ids."""
        enrol = self.config.enrol_utts
        candidates, apart = [], {}
        for speaker, mine in by_speaker(self.shuffled(pool)).items():
            if speaker not in known:
                apart[speaker], mine = mine[:enrol], mine[enrol:]
            candidates += mine
        chosen = self.shuffled(candidates)[:utts]
        speakers = {r.speaker for r in chosen}
        return chosen, [r for s, mine in apart.items() if s in speakers for r in mine]

    def split_by_text(self, pool: list[Recording], sizes: dict[str, int],
                      eligible: Callable[[Recording], bool] = lambda r: True,
                      ) -> dict[str, list[Recording]]:
        """Split into sets of about ``sizes`` utterances and "train" without shared texts.

        A text is held out with all its utterances, if all of them are ``eligible``."""
        texts = defaultdict(list)
        for recording in pool:
            texts[" ".join(recording.text.lower().split())].append(recording)
        order = iter(sorted(texts, key=lambda text: mix(self.config.seed, text)))
        sets: dict[str, list[Recording]] = {name: [] for name in sizes}
        sets["train"] = []
        for name, size in sizes.items():
            while len(sets[name]) < size and (text := next(order, None)) is not None:
                held = all(map(eligible, texts[text]))
                sets[name if held else "train"] += texts[text]
        for text in order:
            sets["train"] += texts[text]
        return sets

    def shuffled(self, recordings: Iterable[Recording]) -> list[Recording]:
        return sorted(recordings, key=lambda r: mix(self.config.seed, r.utt))

    def write(self, sets: dict[str, list[Recording]], credit: str) -> None:
        """Write data/<set> of every set, left_out.tsv and the ATTRIBUTION that packs of trained
        models carry; print a table of sizes."""
        print(f"\n{'set':16}{'utterances':>11}{'hours':>9}{'speakers':>9}")
        for name, recordings in sets.items():
            if not recordings:
                raise UserError(f"{name}: nothing is left for this set; lower "
                                "corpus_data.dev_utts, test_utts or enrol_utts")
            DataDir(text={r.utt: " ".join(r.text.split()) for r in recordings},
                    utt2lang={r.utt: r.lang for r in recordings},
                    utt2spk={r.utt: r.speaker for r in recordings},
                    wav={r.utt: r.wav for r in recordings},
                    utt2emo={r.utt: r.emotion for r in recordings if r.emotion},
                    ).save(self.data / name)
            hours = sum(r.seconds for r in recordings) / 3600
            print(f"{name:16}{len(recordings):11d}{hours:9.2f}"
                  f"{len({r.speaker for r in recordings}):9d}")
        write_text(self.data / "ATTRIBUTION", credit + "\n")
        rows = sorted("\t".join(" ".join(c.split()) for c in row) for row in self.left_out)
        write_text(self.data / "left_out.tsv", "\n".join(["utterance\treason", *rows, ""]))
        kinds = Counter(reason.partition(": ")[0].lstrip("0123456789. ")
                        for _, reason in self.left_out)
        print(f"{len(rows)} left out, listed in {self.data / 'left_out.tsv'}")
        for kind, count in kinds.most_common(20):
            print(f"  {count:7d}  {kind}")


def by_speaker(recordings: Iterable[Recording]) -> dict[str, list[Recording]]:
    groups: dict[str, list[Recording]] = defaultdict(list)
    for recording in recordings:
        groups[recording.speaker].append(recording)
    return groups


def _ready(recording: Recording, folder: Path, sample_rate_hz: int,
           trim_below_peak_db: float | None) -> tuple[Recording, float, str]:
    """(recording with converted audio, seconds of the original, reason if it is unreadable)."""
    source = AudioSpan(recording.wav)
    try:
        about = header(source)
        fits = about[:2] == (sample_rate_hz, 1) and trim_below_peak_db is None
        if fits and recording.wav.endswith((".wav", ".flac")):
            return replace(recording, seconds=about.seconds), about.seconds, ""
        path = folder / recording.speaker / f"{recording.utt}.wav"
        if not path.exists():
            wav = read_mono(source, sample_rate_hz)
            if trim_below_peak_db is not None:
                wav = trim_edges(wav, sample_rate_hz, trim_below_peak_db)
            write_wav(path, wav, sample_rate_hz)
        ready = replace(recording, wav=str(path), seconds=header(AudioSpan(str(path))).seconds)
        return ready, about.seconds, ""
    except UserError as e:
        return recording, 0.0, f"unreadable audio: {e}"


def trim_edges(wav: np.ndarray, sample_rate_hz: int, below_peak_db: float,
               keep_seconds: float = 0.1) -> np.ndarray:
    """Trim edges of (samples,) in which every 20 ms are ``below_peak_db`` below the loudest."""
    hop = round(_RMS_SECONDS * sample_rate_hz)
    blocks = wav[: len(wav) // hop * hop].reshape(-1, hop)
    power = np.square(blocks, dtype=np.float64).mean(axis=1)
    loud = np.flatnonzero(power > power.max(initial=0) * 10 ** (-below_peak_db / 10))
    if not len(loud):
        return wav
    keep = round(keep_seconds * sample_rate_hz)
    return wav[max(0, loud[0] * hop - keep): (loud[-1] + 1) * hop + keep]


def run(description: str, settings: type, prepare: Callable[[Job], None],
        argv: list[str] | None = None) -> int:
    """Main function of local/prepare_data.py: read the configuration and call ``prepare``.

    settings: dataclass of the section ``corpus_data``. Returns the exit status: 2 for a user
    error, printed in one line.
    """
    parser = argparse.ArgumentParser(description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("conf/default.yaml"))
    parser.add_argument("--corpus_dir", type=Path,
                        help="use this copy of the corpus instead of downloading it")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_intermixed_args(argv)
    try:
        tree = merge(read_yaml(args.config), parse_overrides(args.overrides))
        prepare(Job(build(settings, tree.get("corpus_data") or {}, "corpus_data"),
                    build(AudioConfig, tree.get("audio") or {}, "audio"),
                    Path((tree.get("corpus") or {}).get("data_dir", "data")), args.corpus_dir))
    except UserError as e:
        print(f"data: error: {e}", file=sys.stderr)
        return 2
    except OSError as e:
        print(f"data: error: {e.filename or Path.cwd()}: {e.strerror}; free space or correct the "
              "permissions", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
