"""Recordings of Debian's festvox-ru: sentences of one Russian speaker, from which that voice of
Festival was built, with their texts."""

import re
from pathlib import Path

import soundfile
from asterisk import cut_edges, judge, order
from fetch import run_fetch_deb
from sentences import holds_none
from settings import SAMPLE_RATE_HZ, MiniData
from synthetic import Spoken

from e2etts.data.recordings import write_wav
from e2etts.errors import UserError
from e2etts.files import write_text
from e2etts.text import normalise

PACKAGE, LANG = "festvox-ru", "ru"
VOICE = Path("usr/share/festival/voices/russian/msu_ru_nsh_clunits")
CREDIT = (f"Recordings: {PACKAGE} of Debian (voice msu_ru_nsh of Festival), copyright 2005 "
          f"Nickolay V. Shmyrev, BSD-like licence (/usr/share/doc/{PACKAGE}/copyright).\nChanges: "
          "digital silence at the edges cut, stress marks removed from the texts.\n")


def fetch_recordings(deb: Path, barred: set[str], root: Path,
                     config: MiniData) -> tuple[list[Spoken], list[tuple]]:
    """``corpus_data.festvox_ru_hours`` of recordings, in a seeded order.

    Recordings whose text holds a text of ``barred`` (word keys) are not used. Returns utterances,
    and (language, id, reason) of recordings that are left out. Raises UserError where the package
    cannot be fetched or is not as expected."""
    wanted_seconds = config.festvox_ru_hours * 3600
    if wanted_seconds <= 0 or LANG not in config.languages:
        return [], []
    run_fetch_deb(deb, [PACKAGE])
    write_text(root / f"data/wav/{PACKAGE}/ATTRIBUTION", CREDIT)
    texts = read_texts(deb / VOICE / "etc/txt.done.data")
    harmless = holds_none(barred)
    chosen, left_out, have = [], [], 0.0
    for name in sorted(texts, key=lambda name: order(config.seed, PACKAGE, name)):
        if have >= wanted_seconds:
            break
        spoken = normalise(texts[name], LANG)
        target = root / f"data/wav/{PACKAGE}/{name}.wav"
        seconds = copy(deb / VOICE / "wav" / f"{name}.wav", target, config)
        reason = judge(target, spoken, seconds, config)
        if not reason and not harmless(spoken):
            reason = "its text holds a held-out text"
        utt = f"{PACKAGE}-{name.replace('_', '-')}"
        if reason:
            left_out.append((LANG, utt, reason))
            continue
        have += seconds
        chosen.append(Spoken(utt, LANG, PACKAGE, "", str(target.relative_to(root)), texts[name],
                             seconds))
    if have < wanted_seconds:
        print(f"data: {PACKAGE}: {have / 3600:.2f} h instead of {wanted_seconds / 3600:.2f} h: it "
              "has no more", flush=True)
    return chosen, left_out


def read_texts(path: Path) -> dict[str, str]:
    """{name: text} of lines ``( name "text" )``; ``+`` before a stressed vowel is removed."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as e:
        raise UserError(f"{path}: cannot read: {e.strerror}; remove data/download/deb and run "
                        "again") from e
    texts = {}
    for number, line in enumerate(lines, start=1):
        match = re.fullmatch(r'\( (\S+) "(.*)" \)\s*', line)
        if match is None:
            raise UserError(f"{path}:{number}: expected '( name \"text\" )'; another version of "
                            f"{PACKAGE}? set corpus_data.festvox_ru_hours=0")
        texts[match[1]] = match[2].replace("+", "")
    return texts


def copy(source: Path, target: Path, config: MiniData) -> float:
    """Copy a recording without silence at its edges, unless ``target`` is there; its seconds."""
    if not target.exists():
        wav, rate_hz = soundfile.read(str(source), dtype="int16")
        if rate_hz != SAMPLE_RATE_HZ:
            raise UserError(f"{source}: {rate_hz} Hz, expected {SAMPLE_RATE_HZ}; set "
                            "corpus_data.festvox_ru_hours=0")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_wav(target, cut_edges(wav, config.edge_silence_seconds), SAMPLE_RATE_HZ)
    return soundfile.info(str(target)).duration
