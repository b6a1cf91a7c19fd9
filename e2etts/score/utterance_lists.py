"""Utterance lists, and clips of any system: a folder of wavs and the list of their texts."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from e2etts.data.datadir import read_table
from e2etts.errors import UserError
from e2etts.score.clips import Clip
from e2etts.score.meter import seconds_of

SUFFIXES = (".wav", ".flac")
FORMS = ("utt|prompt_text|prompt_wav|target_text[|gt_wav], utt|target_text|prompt_wav or "
         "utt|target_text")


@dataclass(frozen=True, kw_only=True)
class ListLine:
    """One line of a list as seed-tts-eval writes them; paths are resolved."""

    utt: str
    text: str
    prompt_text: str = ""
    prompt: Path | None = None
    target: Path | None = None
    origin: str = ""


def read_list(path: Path) -> list[ListLine]:
    """The lines of a list in one of FORMS; relative paths are relative to the list's folder.

    Raises UserError naming file:line for another number of fields, an empty or repeated utterance
    name, and an empty text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as e:
        raise UserError(f"{path}: cannot read ({e.strerror}): pass a list of {FORMS}") from e
    except UnicodeDecodeError as e:
        line = e.object[: e.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: not UTF-8: convert the list (iconv -t utf-8)") from e
    found: dict[str, ListLine] = {}
    for number, written in enumerate(lines, 1):
        if written.strip():
            line = _parse(written.strip().split("|"), path.parent, f"{path}:{number}")
            if line.utt in found:
                raise UserError(f"{line.origin}: '{line.utt}' occurs twice, first in "
                                f"{found[line.utt].origin}; remove one of the lines")
            found[line.utt] = line
    if not found:
        raise UserError(f"{path}: no line in it: expected {FORMS}")
    return list(found.values())


def _parse(fields: list[str], folder: Path, origin: str) -> ListLine:
    prompt_text = prompt = target = None
    if len(fields) in (4, 5):
        utt, prompt_text, prompt, text, *rest = fields
        target = rest[0] if rest else None
    elif len(fields) == 3:
        utt, text, prompt = fields
        utt = utt.removesuffix(".wav")
    elif len(fields) == 2:
        utt, text = fields
    else:
        raise UserError(f"{origin}: {len(fields)} fields between '|': expected {FORMS}")
    if not utt or not text.strip():
        raise UserError(f"{origin}: an empty utterance name or text: correct or remove the line")
    return ListLine(utt=utt, text=text, prompt_text=prompt_text or "", origin=origin,
                prompt=folder / prompt if prompt else None,
                target=folder / target if target else None)


def read_folder(wavs: Path, *, name: str, lang: str, listed: Path | None = None,
                set_name: str = "", refs: Path | None = None, emotions: Path | None = None,
                times: Path | None = None, say: Callable[[str], None] = print) -> list[Clip]:
    """One clip per line of ``listed``, ``wavs``/UTT.wav (or .flac); without a list, every one below
    ``wavs``. The set is called ``set_name``, else after the list or the folder.

    refs: folder of recordings of the same texts, UTT.wav; emotions: "utt label" lines; times:
    "utt seconds" lines, synthesis times. Files that are not in the list are reported to ``say``.
    Raises UserError for what cannot be read, and for two files of one name.
    """
    for folder in filter(None, (wavs, refs)):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder of wavs")
    there = _files(wavs)
    if not there:
        raise UserError(f"{wavs}: no {' or '.join(SUFFIXES)} in it, nothing to score")
    lines = read_list(listed) if listed else \
        [ListLine(utt=utt, text="", origin=str(path)) for utt, path in there.items()]
    if extra := sorted(there.keys() - {line.utt for line in lines}):
        say(f"score: not in {listed} and so not scored: {len(extra)} of {wavs}, the first "
            f"{there[extra[0]].name}")
    recorded = _files(refs) if refs else {}
    labels = read_table(emotions) if emotions else {}
    spent = read_table(times) if times else {}
    clips = []
    for line in lines:
        wav = there.get(line.utt, wavs / (line.utt + ".wav"))
        target = recorded.get(line.utt, refs / (line.utt + ".wav")) if refs else line.target
        clips.append(Clip(
            system=name, set=set_name or (listed.stem if listed else wavs.name), utt=line.utt,
            wav=wav, text=line.text, lang=lang, speaker="",
            references=tuple(p for p in (line.prompt or target,) if p), prompt=line.prompt,
            seconds=seconds_of(wav), synthesis_seconds=_number(spent.get(line.utt, "0"), times),
            origin=line.origin, target=target, emotion=labels.get(line.utt, "")))
    return clips


def _files(folder: Path) -> dict[str, Path]:
    """Name, with its folders but without suffix -> sound file, of all below ``folder``."""
    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        utt = str(path.relative_to(folder).with_suffix(""))
        if utt in found:
            raise UserError(f"{path} and {found[utt].name} are both '{utt}': remove one")
        found[utt] = path
    return found


def _number(text: str, path: Path | None) -> float:
    try:
        return float(text)
    except ValueError as e:
        raise UserError(f"{path}: '{text}' is not a number of seconds") from e
