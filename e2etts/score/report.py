"""report.html: one self-contained page to look at and to listen to."""

import json
import math
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import soundfile
from tqdm import tqdm

from e2etts.errors import UserError
from e2etts.score.charts import histogram
from e2etts.score.clips import PROMPT_SYSTEM, SYSTEMS, Clip, read_clips
from e2etts.score.config import ScoreConfig
from e2etts.score.media import audio_uri, read_wav, spectrogram_uri
from e2etts.score.provenance import read_json
from e2etts.score.tables import (
    ABSENT,
    COLUMNS,
    NAMES,
    RM_NOTE,
    STYLE_NOTE,
    clock,
    percent,
    rm_table,
    rm_verification,
    set_order,
    style_table,
)
from e2etts.score.training import training_section
from e2etts.score.wer import align

SHOWN = (*SYSTEMS, PROMPT_SYSTEM)
SHORT = {"recording": "recording", "copy": "copy", "tts": "tts", "tts_prompt": "by prompt"}


def read_results(exp: Path) -> dict[str, Any]:
    """results.json of an experiment. Raises UserError when it is absent or damaged."""
    results = read_json(exp / "results.json")
    if not isinstance(results, dict) or "systems" not in results:
        raise UserError(f"{exp / 'results.json'}: absent or not a result: run e2etts score first")
    return results


def report_html(exp: Path, config: ScoreConfig) -> str:
    """The whole page. Raises UserError when the experiment has not been scored."""
    results, clips = read_results(exp), read_clips(exp / "wavs")
    scores = read_scores(exp / "scores.jsonl")
    body = [_header(results), _numbers(results), _more_numbers(results),
            _listen(clips, scores, results, config), training_section(exp),
            _tokens(exp / "tokens.json"), _provenance(results)]
    page = Template(files("e2etts.score").joinpath("report.html").read_text(encoding="utf-8"))
    return page.substitute(title=escape(f"e2etts: {results.get('tag', exp.name)}"),
                           body="\n".join(body))


def read_scores(path: Path) -> dict[tuple[str, str, str], dict[str, Any]]:
    """scores.jsonl by (system, set, utterance). Raises UserError naming file:line."""
    scores: dict[tuple[str, str, str], dict[str, Any]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as e:
        raise UserError(f"{path}: cannot read ({e.strerror}): run e2etts score first") from e
    for n, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            scores[row["system"], row["set"], row["utt"]] = row
        except (ValueError, KeyError, TypeError) as e:
            raise UserError(f"{path}:{n}: not a score: run e2etts score again") from e
    return scores


def _header(results: dict) -> str:
    names = set_order(results)
    first = names[0] if names else ""
    tiles = [(percent(results["systems"].get(s, {}).get(first, {}).get("wer")) + " %",
              f"WER {first}, {NAMES[s]}") for s in SYSTEMS]
    tiles += [(clock(results.get("train_seconds")), "training"),
              (f"{results.get('peak_gib', 0):.1f} GiB", "peak memory")]
    boxes = "".join(f'<div class="tile"><b>{escape(v.replace(ABSENT + " %", ABSENT))}</b>'
                    f'<span class="soft small">{escape(k)}</span></div>' for v, k in tiles)
    listener = (results.get("recognizer") or {}).get("name", "none")
    incomplete = "" if results.get("scored") == results.get("expected") else \
        f" Only {results['scored']} of {results['expected']} expected clips could be scored."
    return (f"<header><h1>{escape(str(results.get('tag', '')))}</h1>"
            f'<p class="soft">Recordings, copy synthesis (tokens of the recording through flow '
            f"matching and vocoder) and text-to-speech of unseen texts. Recogniser: "
            f"{escape(listener)}.{escape(incomplete)}</p>"
            '<nav aria-label="Sections"><a href="#numbers">Numbers</a><a href="#listen">Listen</a>'
            '<a href="#training">Training</a><a href="#tokens">Tokens</a>'
            f'<a href="#origin">Origin</a></nav></header><div class="tiles">{boxes}</div>')


def _numbers(results: dict) -> str:
    systems = {**results["systems"], PROMPT_SYSTEM: results.get("voice_prompt", {})}
    shown = [s for s in SHOWN if systems.get(s)]
    head = "".join(f'<th scope="colgroup" class="group" colspan="{len(shown)}">{n}</th>'
                   for n, _, _ in COLUMNS)
    sub = "".join(f'<th scope="col"{_edge(i)}>{escape(SHORT[s])}</th>'
                  for _ in COLUMNS for i, s in enumerate(shown))
    rows = []
    for name in set_order(results):
        cells = "".join(
            f"<td{_edge(i)}>{show(systems[s].get(name, {}).get(key))}</td>"
            for _, key, show in COLUMNS for i, s in enumerate(shown))
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    missing = "".join(f"<li>{escape(r['metric'])}: {escape(r['reason'])}; "
                      f"{escape(r['remedy'])}</li>" for r in results.get("not_run", []))
    return ('<section id="numbers"><h2>Numbers</h2><div class="scroll" tabindex="0" '
            'role="region" aria-label="Table of scores"><table><thead><tr>'
            f'<th rowspan="2" scope="col">set</th>{head}</tr><tr>{sub}</tr></thead>'
            f'<tbody>{"".join(rows)}</tbody></table></div>'
            + (f"<p>Not run:</p><ul>{missing}</ul>" if missing else "") + "</section>")


def _more_numbers(results: dict) -> str:
    """Style control and the RM alone, where they were measured."""
    out = []
    if "style" in results:
        note = STYLE_NOTE.format(results["style"]["training_recordings"])
        out.append(_section("style", "Style control", [note], style_table(results)))
    if rm := results.get("rm"):
        notes = [RM_NOTE.format(rm["system"]), *rm_verification(rm)]
        out.append(_section("rm", "Reward model alone", notes, rm_table(rm)))
    return "\n".join(out)


def _section(name: str, title: str, notes: list[str],
             table: tuple[list[str], list[list[str]]]) -> str:
    head = "".join(f'<th scope="col">{escape(c)}</th>' for c in table[0])
    rows = "".join(f'<tr><th scope="row">{escape(row[0])}</th>'
                   + "".join(f"<td>{escape(c)}</td>" for c in row[1:]) + "</tr>"
                   for row in table[1])
    told = "".join(f'<p class="soft small">{escape(n)}</p>' for n in notes)
    return (f'<section id="{name}"><h2>{title}</h2>{told}<div class="scroll" tabindex="0" '
            f'role="region" aria-label="{title}"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div></section>")


def _edge(i: int) -> str:
    return ' class="group"' if i == 0 else ""


def chosen(clips: list[Clip], config: ScoreConfig) -> dict[str, list[str]]:
    """Set -> utterances that the report shows: those with the most systems first, then evenly
    spread over the set."""
    systems: dict[str, dict[str, set[str]]] = {}
    for c in clips:
        if c.system in SHOWN:
            systems.setdefault(c.set, {}).setdefault(c.utt, set()).add(c.system)
    out = {}
    for name, utts in systems.items():
        limit = config.clips_of(name)
        prompted = [u for u in utts if PROMPT_SYSTEM in utts[u]][:limit]
        others = [u for u in utts if u not in prompted]
        room = limit - len(prompted)
        step = -(-len(others) // room) if room > 0 else 0
        out[name] = sorted(prompted + (others[::step] if step else []))
    return out


def _listen(clips: list[Clip], scores: dict, results: dict, config: ScoreConfig) -> str:
    by_key = {(c.system, c.set, c.utt): c for c in clips}
    parts = ['<section id="listen"><h2>Listen</h2><p class="soft small">Below each player: what '
             "the recogniser heard. <span class=\"heard\"><mark>wrong</mark> <del>left out</del> "
             "<ins>added</ins></span></p>"]
    picks = chosen(clips, config)
    total = sum(map(len, picks.values()))
    with tqdm(total=total, desc="report", unit="clip", mininterval=0.5) as bar:
        for name in [n for n in set_order(results) if picks.get(n)]:
            parts.append(f'<h2 class="set">{escape(name)} <small class="soft">{len(picks[name])} '
                         f"of {len({c.utt for c in clips if c.set == name})}</small></h2>")
            rows = [[by_key[s, name, utt] for s in SHOWN if (s, name, utt) in by_key]
                    for utt in picks[name]]
            single = all(len(row) == 1 for row in rows)
            parts.append(f'<div class="{"singles" if single else "rows"}">')
            for row in rows:
                parts.append(_clip(row, scores))
                bar.update()
            parts.append("</div>")
    return "\n".join([*parts, "</section>"])


def _clip(row: list[Clip], scores: dict) -> str:
    longest = max([c.seconds for c in row] + [0.1])
    takes = "".join(_take(c, scores.get((c.system, c.set, c.utt), {}), longest) for c in row)
    return (f'<article class="clip"><p class="said" lang="{escape(row[0].lang)}">'
            f'{escape(row[0].text)} <small class="soft">{escape(row[0].utt)}</small></p>'
            f'<div class="takes">{takes}</div></article>')


def _take(clip: Clip, score: dict, longest: float) -> str:
    name = NAMES[clip.system]
    title = f"<h3>{escape(name)}</h3>"
    try:
        wav, rate = read_wav(clip.wav)
    except (OSError, soundfile.SoundFileError) as e:
        return f'<div class="take">{title}<p class="heard">No sound: {escape(str(e))}</p></div>'
    if not len(wav):
        return f'<div class="take">{title}<p class="heard">No sound: no samples</p></div>'
    label = escape(f"{name} of {clip.utt}")
    seconds = len(wav) / rate
    width = min(100.0, 100 * seconds / max(longest, seconds))  # one time scale for a row
    alt = f"Spectrogram: {label}, 0 to {rate / 2000:g} kHz, {seconds:.2f} s"
    picture = (f'<figure><div><img src="{spectrogram_uri(wav, rate)}" style="width:{width:.1f}%" '
               f'alt="{alt}"></div><figcaption>0 to {rate / 2000:g} kHz, {seconds:.2f} s'
               "</figcaption></figure>")
    player = (f'<audio controls preload="metadata" aria-label="{label}" '
              f'src="{audio_uri(wav, rate)}"></audio>')
    return (f'<div class="take">{title}{picture}{player}'
            f'<p class="heard" lang="{escape(clip.lang)}">{_heard(score)}</p></div>')


def _heard(score: dict) -> str:
    if score.get("heard") is None:
        return '<span class="soft" lang="en">not recognised</span>'
    errors = score.get("errors")
    if not errors:
        return escape(score["heard"])
    words = []
    for kind, said, got in align(errors["reference"], errors["heard"]):
        if kind == "equal":
            words.append(escape(got))
        elif kind == "substitute":
            words.append(f'<mark title="instead of: {escape(said)}">{escape(got)}</mark>')
        else:
            words.append(f"<del>{escape(said)}</del>" if kind == "delete"
                         else f"<ins>{escape(got)}</ins>")
    count = errors["substituted"] + errors["deleted"] + errors["inserted"]
    return (f'<span title="heard: {escape(score["heard"])}">{" ".join(words)}</span>'
            f' <span class="soft small" lang="en">{count} of {errors["words"]} words</span>')


def _tokens(path: Path) -> str:
    tokens = read_json(path)
    head = '<section id="tokens"><h2>Token usage</h2>'
    try:
        counts = [int(c) for c in tokens["counts"]]
        chart = histogram(counts, "Share of each speech token, most used first")
        size = int(tokens.get("codebook_size", len(counts)))
        facts = (f"{float(tokens['entropy_bits']):.2f} bits of {math.log2(max(size, 2)):.2f}; "
                 f"{percent(float(tokens['used_share']))} % of {size} tokens used, "
                 f"{sum(counts)} counted")
    except (TypeError, KeyError, ValueError):
        return head + '<p class="soft">No token counts: synthesis has not written tokens.json.' \
                      "</p></section>"
    return (f'{head}<div class="charts"><div class="chart"><p class="small">{facts}. Dashed: '
            f"even use.</p>{chart}</div></div></section>")


def _provenance(results: dict) -> str:
    listener = results.get("recognizer") or {}
    facts = {"command": results.get("command"), "commit": results.get("commit"),
             "seed": results.get("seed"), "hardware": results.get("hardware"),
             "recogniser": ", ".join(str(v) for v in listener.values()) or "none",
             "training": clock(results.get("train_seconds")),
             "all stages": clock(results.get("wall_seconds"))}
    rows = "".join(f"<dt>{k}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items())
    problems = "".join(f"<li>{escape(p['clip'])}: {escape(p['problem'])}</li>"
                       for p in results.get("problems", []))
    return (f'<section id="origin"><h2>Origin</h2><dl>{rows}</dl>'
            + (f"<h3>Clips that could not be scored</h3><ul>{problems}</ul>" if problems else "")
            + "</section>")
