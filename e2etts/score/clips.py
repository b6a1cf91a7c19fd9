"""The clips to score: ``wavs/SYSTEM/SET/manifest.jsonl``, one JSON object per line."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from e2etts.errors import UserError

SYSTEMS = ("recording", "vocoded", "copy", "tts")
PROMPT_SYSTEM, EMBEDDING_SYSTEM = "tts_prompt", "tts_embedding"


@dataclass(frozen=True)
class LabelledRecording:
    """A recording with its emotion label."""

    wav: Path
    text: str
    lang: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One wav and its text ("" where unknown).

    references: recordings of its speaker; prompt: the voice prompt; target: a recording of the same
    text; emotion: the requested label; unseen: training has no recordings of its speaker; origin:
    file:line of the manifest.
    """

    system: str
    set: str
    utt: str
    wav: Path
    text: str
    lang: str
    speaker: str
    references: tuple[Path, ...]
    prompt: Path | None
    seconds: float
    synthesis_seconds: float
    origin: str
    target: Path | None = None
    emotion: str = ""
    unseen: bool = False


def read_clips(wavs: Path) -> list[Clip]:
    """All clips below ``wavs``: those of a recipe's systems in order, then others; sets by name.

    Raises UserError naming file:line for a line of another form, and when there is nothing to
    score.
    """
    manifests = sorted(wavs.glob("*/*/manifest.jsonl"))
    if not manifests:
        raise UserError(f"{wavs}: no manifest.jsonl below it, nothing to score: "
                        "run stage 9 (e2etts synthesize) first")
    order = {name: i for i, name in enumerate((*SYSTEMS, PROMPT_SYSTEM, EMBEDDING_SYSTEM))}
    manifests.sort(key=lambda m: (order.get(m.parts[-3], len(order)), m.parts[-3], m.parts[-2]))
    clips = [clip for manifest in manifests for clip in _read(manifest)]
    recorded = {(c.set, c.utt): c.wav for c in clips if c.system == "recording"}
    return [c if c.system == "recording" else replace(c, target=recorded.get((c.set, c.utt)))
            for c in clips]


def _read(manifest: Path) -> list[Clip]:
    try:
        lines = manifest.read_bytes().decode("utf-8").split("\n")
    except OSError as e:
        raise UserError(f"{manifest}: cannot read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        line = e.object[: e.start].count(b"\n") + 1
        raise UserError(f"{manifest}:{line}: not UTF-8: run e2etts synthesize again") from e
    clips: dict[str, Clip] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        origin = f"{manifest}:{number}"
        clip = _clip(line, manifest, origin)
        if clip.utt in clips:
            raise UserError(f"{origin}: '{clip.utt}' occurs twice, first in "
                            f"{clips[clip.utt].origin}; remove one of the lines")
        clips[clip.utt] = clip
    if not clips:
        raise UserError(f"{manifest}: no clips in it: run e2etts synthesize again")
    return list(clips.values())


def _clip(line: str, manifest: Path, origin: str) -> Clip:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as e:
        raise UserError(f"{origin}: not JSON ({e.msg}): run e2etts synthesize again") from e
    if not isinstance(row, dict):
        raise UserError(f"{origin}: expected an object, got {type(row).__name__}")

    def take(key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        value = row.get(key, default)
        if value is None and key not in row:
            raise UserError(f"{origin}: no '{key}': run e2etts synthesize again")
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(f"{origin}: '{key}' is {value!r:.60}, of the wrong type")
        return value

    folder = manifest.parent
    references = take("references", list, [])
    if not all(isinstance(r, str) for r in references):
        raise UserError(f"{origin}: 'references' must hold paths")
    text, prompt = take("text", str), row.get("prompt")
    if not text.strip():
        raise UserError(f"{origin}: '{row.get('utt')}' has an empty reference text; error rates "
                        "need one: remove the clip or write its text")
    return Clip(
        system=manifest.parts[-3], set=manifest.parts[-2], utt=take("utt", str),
        wav=folder / take("wav", str), text=text, lang=take("lang", str),
        speaker=take("speaker", str, ""), references=tuple(folder / r for r in references),
        prompt=folder / take("prompt", str) if prompt is not None else None,
        seconds=float(take("seconds", (int, float), 0.0)),
        synthesis_seconds=float(take("synthesis_seconds", (int, float), 0.0)), origin=origin,
        emotion=take("emotion", str, ""), unseen=row.get("unseen") is True)
