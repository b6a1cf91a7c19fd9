"""Combine, subset, split and rename data sets; dropped utterances are reported with reasons."""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path

from e2etts.data.datadir import TABLES, DataDir
from e2etts.errors import UserError
from e2etts.files import write_text

LeftOut = dict[str, str]  # utterance -> "kind" or "kind: particulars"


def combine(sets: dict[str, DataDir]) -> DataDir:
    """Combine several sets (name -> set). If one has segments, the others get segments that span
    their files.

    Raises UserError for an utterance in two sets, recordings of the same name with different
    files, and a mix of sets with and without audio.
    """
    silent = [name for name, data in sets.items() if not data.wav]
    if silent and len(silent) < len(sets):
        raise UserError(f"{silent[0]}: has no wav.scp, but another set has: combine text-only "
                        "sets separately from sets with audio")
    out = DataDir({}, {}, {})
    segmented = any(data.segments for data in sets.values())
    for name, data in sets.items():
        for f in fields(DataDir):
            table = getattr(data, f.name)
            if f.name == "segments" and segmented and not table:
                table = {utt: f"{utt} 0 -1" for utt in data.wav}
            have = getattr(out, f.name)
            for key in have.keys() & table.keys():
                if f.name != "wav" or not segmented or have[key] != table[key]:
                    raise UserError(f"{name}: '{key}' is in another of the sets too: give the "
                                    "sets prefixes with utils/copy_data_dir.py --prefix")
            have |= table
    return out


def renamed(data: DataDir, *, prefix: str = "", speaker_prefix: str = "",
            path: tuple[str, str] = ("", "")) -> DataDir:
    """Add prefixes to utterances (and recordings) and speakers, and replace a prefix of the audio
    paths: ``path`` is (old, new).

    Raises UserError for an audio path without the old prefix.
    """
    tables = {f.name: {prefix + k: v for k, v in getattr(data, f.name).items()}
              for f in fields(data)}
    tables["utt2spk"] = {u: speaker_prefix + s for u, s in tables["utt2spk"].items()}
    for name in ("segments", "utt2prompt"):  # their values begin with a name too
        tables[name] = {u: prefix + value for u, value in tables[name].items()}
    old, new = path
    for key, wav in tables["wav"].items():
        if not wav.startswith(old):
            raise UserError(f"wav.scp: '{key}': {wav} does not begin with '{old}'")
        tables["wav"][key] = new + wav.removeprefix(old)
    return DataDir(**tables)


def chosen(data: DataDir, utts: Iterable[str], *, count: int | None = None,
           per_speaker: int | None = None, seed: int = 0) -> tuple[DataDir, LeftOut]:
    """Subset of ``utts``: at most ``per_speaker`` of each speaker and ``count`` in total, drawn by
    ``seed``. Raises UserError if it is empty."""
    wanted, left_out = set(utts), {}
    order = sorted(data.text)
    random.Random(seed).shuffle(order)
    taken: Counter[str] = Counter()
    keep = set()
    for utt in order:
        if utt not in wanted:
            left_out[utt] = "not requested"
        elif per_speaker is not None and taken[data.utt2spk[utt]] >= per_speaker:
            left_out[utt] = f"more than {per_speaker} of its speaker"
        elif count is not None and len(keep) >= count:
            left_out[utt] = f"more than {count}"
        else:
            keep.add(utt)
            taken[data.utt2spk[utt]] += 1
    if not keep:
        raise UserError("no utterance is left: the set has none of those requested")
    return data.subset(keep), left_out


def split(data: DataDir, parts: dict[str, int], rest: str, *, by_speaker: bool = False,
          unique_text: bool = False, seed: int = 0) -> tuple[dict[str, DataDir], LeftOut]:
    """Split into disjoint sets: ``parts`` (name -> number of utterances, or of whole speakers with
    ``by_speaker``), drawn by ``seed``, and ``rest`` with all others.

    A split by utterance keeps at least one utterance of every speaker in ``rest``.
    ``unique_text``: no text (compared by letters and digits, ignoring case) is in two sets. A
    split by utterance then moves equal texts to the same set: it drops nothing, but a part may be
    slightly smaller than requested. A split by speaker keeps a text in the first of ``parts`` that
    has it and drops it from later ones and from ``rest``.
    Raises UserError if there are too few utterances or speakers, or a set is empty.
    """
    draw = _by_speaker if by_speaker else _by_utterance
    sets = draw(data, parts, unique_text, random.Random(seed))
    held = {utt for utts in sets.values() for utt in utts}
    sets[rest] = [utt for utt in data.utts if utt not in held]
    left_out: LeftOut = {}
    if unique_text and by_speaker:
        sets = _first_of_each_text(data, sets, left_out)
    empty = [name for name, utts in sets.items() if not utts]
    if empty:
        raise UserError(f"nothing is left for the set '{empty[0]}' of {len(data)} utterances: "
                        "make the parts smaller")
    return {name: data.subset(utts) for name, utts in sets.items()}, left_out


def _by_speaker(data: DataDir, parts: dict[str, int], _: bool,
                rng: random.Random) -> dict[str, list[str]]:
    of_speaker = _grouped(data.utts, data.utt2spk.__getitem__)
    speakers = list(of_speaker)
    if sum(parts.values()) >= len(speakers):
        raise UserError(f"the parts request {sum(parts.values())} of {len(speakers)} speakers, "
                        "but at least one must be left: request fewer")
    rng.shuffle(speakers)
    return {name: [u for s in [speakers.pop() for _ in range(count)] for u in of_speaker[s]]
            for name, count in parts.items()}


def _by_utterance(data: DataDir, parts: dict[str, int], unique_text: bool,
                  rng: random.Random) -> dict[str, list[str]]:
    """Assign groups that must stay together (one text, or one utterance) to the parts."""
    key = (lambda u: text_key(data.text[u])) if unique_text else str
    groups = list(_grouped(data.utts, key).values())
    rng.shuffle(groups)
    left = Counter(data.utt2spk.values())
    sets: dict[str, list[str]] = {name: [] for name in parts}
    for name, count in parts.items():
        passed = []
        while groups and len(sets[name]) < count:
            group = groups.pop()
            speakers = Counter(data.utt2spk[u] for u in group)
            if len(sets[name]) + len(group) > count or any(
                    left[s] <= n for s, n in speakers.items()):
                passed.append(group)
                continue
            sets[name] += group
            left.subtract(speakers)
        if len(sets[name]) < count and not (unique_text and sets[name]):
            raise UserError(f"'{name}': only {len(sets[name])} of {count} utterances available, "
                            f"of {len(data)}, without taking all of a speaker"
                            f"{' or dividing a text' if unique_text else ''}: change the number")
        groups += passed
    return sets


def _first_of_each_text(data: DataDir, sets: dict[str, list[str]],
                        left_out: LeftOut) -> dict[str, list[str]]:
    owner: dict[str, str] = {}
    out: dict[str, list[str]] = {name: [] for name in sets}
    for name, utts in sets.items():
        for utt in utts:
            first = owner.setdefault(text_key(data.text[utt]), name)
            if first == name:
                out[name].append(utt)
            else:
                left_out[utt] = f"text is in {first} too"
    return out


def _grouped(utts: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for utt in utts:
        groups[key(utt)].append(utt)
    return groups


def say_lost_prompts(data: DataDir, parts: dict[str, DataDir]) -> None:
    """Print how many utterances have lost their prompt in ``parts`` (name -> part of data)."""
    for name, part in parts.items():
        if lost := len(data.utt2prompt.keys() & part.text.keys() - part.utt2prompt.keys()):
            print(f"{name}: {lost} utterances without their prompt, which is not in this set")


def text_key(text: str) -> str:
    """Key for comparing texts: their letters and digits, ignoring case."""
    return "".join(c for c in text.casefold() if c.isalnum()) or text


def check_output(folder: str | Path, inputs: Iterable[str | Path]) -> None:
    """Raise UserError if the output would overwrite an input set."""
    for name in inputs:
        if Path(folder).resolve() == Path(name).resolve():
            raise UserError(f"{folder}: is both input and output: give another output folder")


def say_not_carried(*folders: str | Path) -> None:
    """Print the files of data directories that e2etts does not know and therefore not copy."""
    for folder in folders:
        strange = sorted(p.name for p in Path(folder).iterdir()
                         if p.is_file() and p.name not in _KNOWN)
        if strange:
            print(f"{folder}: not copied: {', '.join(strange)}")


_KNOWN = {*TABLES, "left_out.tsv", "skipped.tsv"}


def report_left_out(path: str | Path, rows: Iterable[tuple[str, str, str]]) -> None:
    """Write (utterance, place, reason) to ``path`` and print counts by kind of reason; without
    rows, remove an older file."""
    rows, path = list(rows), Path(path)
    if not rows:
        path.unlink(missing_ok=True)
        return
    lines = ("\t".join(" ".join(str(cell).split()) for cell in row) + "\n" for row in rows)
    write_text(path, "utterance\tplace\treason\n" + "".join(lines))
    print(f"{len({row[:2] for row in rows})} left out, listed in {path}:")
    for kind, count in Counter(_kind(row[2]) for row in rows).most_common():
        print(f"  {count:7d}  {kind}")


def _kind(reason: str) -> str:
    """A reason without its details (file name before it, text after a colon, numbers)."""
    first, _, rest = reason.partition(": ")
    kind = rest.partition(":")[0] if rest and "/" in first else first
    return re.sub(r"\d+(\.\d+)?", "N", kind)
