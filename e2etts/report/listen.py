"""The report's players: clips of all systems side by side, with recognition hypotheses."""

from html import escape

import soundfile
from tqdm import tqdm

from e2etts.report.formats import NAMES
from e2etts.report.media import audio_uri, spectrogram_uri
from e2etts.score.clips import PROMPT_SYSTEM
from e2etts.score.config import ScoreConfig
from e2etts.score.error_rates import align
from e2etts.score.meter import read_samples
from e2etts.score.score_files import Row, Scores


def chosen(scores: Scores, config: ScoreConfig) -> dict[str, list[str]]:
    """Set -> utterances that the report shows: those by voice prompt first, then others, both
    evenly spread over the set."""
    systems: dict[str, dict[str, set[str]]] = {}
    for system, name, utt in scores:
        systems.setdefault(name, {}).setdefault(utt, set()).add(system)
    out = {}
    for name, utts in systems.items():
        limit = config.clips_of(name)
        prompted = _spread([u for u in utts if PROMPT_SYSTEM in utts[u]], limit)
        others = _spread([u for u in utts if u not in prompted], limit - len(prompted))
        out[name] = sorted(prompted + others)
    return out


def _spread(items: list[str], most: int) -> list[str]:
    """At most so many of the items, evenly spread."""
    return items[:: -(-len(items) // most)] if items and most > 0 else []


def listen_section(scores: Scores, systems: list[str], sets: list[str], config: ScoreConfig) -> str:
    """HTML of the chosen clips of each set; those of one utterance stand side by side."""
    parts = ['<section id="listen"><h2>Listen</h2><p class="soft small">Below each player: the '
             'recognition hypothesis. <span class="hypothesis"><mark>substituted</mark> '
             '<del>deleted</del> <ins>inserted</ins></span></p>']
    picks = chosen(scores, config)
    with tqdm(total=sum(map(len, picks.values())), desc="report", unit="clip",
              mininterval=0.5) as bar:
        for name in [n for n in sets if picks.get(n)]:
            total = len({utt for _, of, utt in scores if of == name})
            parts.append(f'<h2 class="set">{escape(name)} <small class="soft">{len(picks[name])} '
                         f"of {total}</small></h2>")
            takes = [[(s, scores[s, name, utt]) for s in systems if (s, name, utt) in scores]
                     for utt in picks[name]]
            single = all(len(t) == 1 for t in takes)
            parts.append(f'<div class="{"singles" if single else "rows"}">')
            for some in takes:
                parts.append(_clip(some))
                bar.update()
            parts.append("</div>")
    return "\n".join([*parts, "</section>"])


def _clip(takes: list[tuple[str, Row]]) -> str:
    longest = max([row.get("seconds") or 0.0 for _, row in takes] + [0.1])
    first = takes[0][1]
    return (f'<article class="clip"><p class="text" lang="{escape(first["lang"])}">'
            f'{escape(first["text"])} <small class="soft">{escape(first["utt"])}</small></p>'
            f'<div class="takes">{"".join(_take(s, row, longest) for s, row in takes)}</div>'
            "</article>")


def _take(system: str, row: Row, longest: float) -> str:
    name = NAMES.get(system, system)
    title = f"<h3>{escape(name)}</h3>"

    def silent(why: str) -> str:
        return f'<div class="take">{title}<p class="hypothesis">No sound: {escape(why)}</p></div>'

    if row["wav"] is None:
        return silent("its scores name no wav: run e2etts score again")
    try:
        wav, rate = read_samples(row["wav"])
    except (OSError, soundfile.SoundFileError) as e:
        return silent(str(e))
    wav = wav.mean(1)
    label = escape(f"{name} of {row['utt']}")
    seconds = len(wav) / rate
    width = min(100.0, 100 * seconds / max(longest, seconds))  # one time scale for a row
    alt = f"Spectrogram: {label}, 0 to {rate / 2000:g} kHz, {seconds:.2f} s"
    picture = (f'<figure><div><img src="{spectrogram_uri(wav, rate)}" style="width:{width:.1f}%" '
               f'alt="{alt}"></div><figcaption>0 to {rate / 2000:g} kHz, {seconds:.2f} s'
               "</figcaption></figure>")
    player = (f'<audio controls preload="metadata" aria-label="{label}" '
              f'src="{audio_uri(wav, rate)}"></audio>')
    return (f'<div class="take">{title}{picture}{player}'
            f'<p class="hypothesis" lang="{escape(row["lang"])}">{_hypothesis(row)}</p></div>')


def _hypothesis(row: Row) -> str:
    if row.get("hypothesis") is None:
        return '<span class="soft" lang="en">not recognised</span>'
    errors = row.get("errors")
    if not errors:
        return escape(row["hypothesis"])
    words = []
    for kind, want, got in align(errors["reference"], errors["hypothesis"]):
        if kind == "equal":
            words.append(escape(got))
        elif kind == "substitute":
            words.append(f'<mark title="instead of: {escape(want)}">{escape(got)}</mark>')
        else:
            words.append(f"<del>{escape(want)}</del>" if kind == "delete"
                         else f"<ins>{escape(got)}</ins>")
    count = errors["substituted"] + errors["deleted"] + errors["inserted"]
    return (f'<span title="recognised: {escape(row["hypothesis"])}">{" ".join(words)}</span>'
            f' <span class="soft small" lang="en">{count} of {errors["words"]} words</span>')
