"""report.html: one self-contained page with tables, players and charts."""

import math
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from e2etts.files import read_json
from e2etts.report.charts import histogram
from e2etts.report.formats import NAMES, clock, percent
from e2etts.report.listen import listen_section
from e2etts.report.merged_scores import merged_scores
from e2etts.report.sections import (
    COLUMNS,
    Section,
    cells_of,
    in_tables,
    not_run,
    problems,
    sections,
    set_order,
)
from e2etts.report.training_curves import training_section
from e2etts.score.clips import EMBEDDING_SYSTEM, PROMPT_SYSTEM
from e2etts.score.config import ScoreConfig
from e2etts.score.score_files import read_results

PARTS = (("numbers", "Numbers"), ("listen", "Listen"), ("training", "Training"),
         ("tokens", "Tokens"), ("origin", "Origin"))
RECIPE_NOTE = ("Recordings, copy synthesis (tokens of the recording through flow matching and "
               "vocoder) and text-to-speech of unseen texts. ")
SHORT = {"vocoded": "vocoded", "copy": "copy", "tts": "tts", PROMPT_SYSTEM: "by prompt",
         EMBEDDING_SYSTEM: "by embedding"}
SCROLL = '<div class="scroll" tabindex="0" role="region" aria-label="{}">'
MOST_TILES = 4


def report_html(exps: Sequence[Path], config: ScoreConfig) -> str:
    """The whole page, of a recipe's experiment or of any scored folders side by side. Raises
    UserError where one has not been scored."""
    results, scores = merged_scores(exps)
    cells, sets = cells_of(results), set_order(results)
    body = [_numbers(in_tables(results, cells), sets), *map(_section, sections(results)),
            _unmeasured(results), listen_section(scores, list(cells), sets, config)]
    if len(exps) == 1:
        body += [training_section(exps[0]), _tokens(exps[0] / "tokens.json")]
    body.append(_origin(exps))
    text = "\n".join([_header(cells, sets, results, "".join(body)), *body])
    page = Template(files("e2etts.report").joinpath("page.html").read_text(encoding="utf-8"))
    return page.substitute(title=escape(f"e2etts: {results['tag']}"), body=text)


def _header(cells: dict[str, dict], sets: list[str], results: dict, body: str) -> str:
    first = sets[0] if sets else ""
    tiles = [(f"{percent(cells[s][first]['wer'])} %", f"WER {first}, {NAMES.get(s, s)}")
             for s in cells if cells[s].get(first, {}).get("wer") is not None][:MOST_TILES]
    if results.get("training"):
        tiles.append((clock(results["train_seconds"]), "training"))
    if "peak_gib" in results:
        tiles.append((f"{results['peak_gib']:.1f} GiB", "peak memory"))
    boxes = "".join(f'<div class="tile"><b>{escape(v)}</b><span class="soft small">{escape(k)}'
                    "</span></div>" for v, k in tiles)
    recogniser = (results.get("recognizer") or {}).get("name", "none")
    incomplete = "" if results.get("scored") == results.get("expected") else \
        f" Only {results['scored']} of {results['expected']} expected clips could be scored."
    links = "".join(f'<a href="#{part}">{title}</a>' for part, title in PARTS
                    if f'id="{part}"' in body)
    note = RECIPE_NOTE if any(results["systems"].values()) else ""
    return (f"<header><h1>{escape(str(results['tag']))}</h1>"
            f'<p class="soft">{note}Recogniser: {escape(recogniser)}.{escape(incomplete)}</p>'
            f'<nav aria-label="Sections">{links}</nav></header><div class="tiles">{boxes}</div>')


def _numbers(cells: dict[str, dict], sets: list[str]) -> str:
    sets = [name for name in sets if any(name in of for of in cells.values())]
    columns = [c for c in COLUMNS
               if any(cell.get(c[1]) is not None for of in cells.values() for cell in of.values())]
    if not columns:
        return ""
    head = "".join(f'<th scope="colgroup" class="group" colspan="{len(cells)}">{n}</th>'
                   for n, _, _ in columns)
    sub = "".join(f'<th scope="col"{_edge(i)}>{escape(SHORT.get(s, s))}</th>'
                  for _ in columns for i, s in enumerate(cells))
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td{_edge(i)}>{show(of.get(name, {}).get(key))}</td>"
                  for _, key, show in columns for i, of in enumerate(cells.values())) + "</tr>"
        for name in sets)
    return (f'<section id="numbers"><h2>Numbers</h2>{SCROLL.format("Table of scores")}<table>'
            f'<thead><tr><th rowspan="2" scope="col">set</th>{head}</tr><tr>{sub}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div></section>")


def _edge(i: int) -> str:
    return ' class="group"' if i == 0 else ""


def _section(section: Section) -> str:
    title = escape(section.title)
    notes = "".join(f'<p class="soft small">{escape(n)}</p>' for n in section.notes)
    head = "".join(f'<th scope="col">{escape(c)}</th>' for c in section.head)
    rows = "".join(f'<tr><th scope="row">{escape(row[0])}</th>'
                   + "".join(f"<td>{escape(c)}</td>" for c in row[1:]) + "</tr>"
                   for row in section.rows)
    return (f"<section><h2>{title}</h2>{notes}{SCROLL.format(title)}<table><thead><tr>{head}</tr>"
            f"</thead><tbody>{rows}</tbody></table></div></section>")


def _unmeasured(results: dict) -> str:
    lists = (("Not run", [escape(line) for line in not_run(results)]),
             ("Clips that could not be scored",
              [f"<code>{escape(clip)}</code>{escape(why)}" for clip, why in problems(results)]))
    return "".join(
        f"<section><h2>{title}</h2><ul>{''.join(f'<li>{i}</li>' for i in items)}</ul></section>"
        for title, items in lists if items)


def _tokens(path: Path) -> str:
    """Use of the codes, where synthesis counted them."""
    tokens = read_json(path)
    if tokens is None:
        return ""
    counts, size = tokens["counts"], tokens["codebook_size"]
    chart = histogram(counts, "Share of each speech token, most used first")
    return ('<section id="tokens"><h2>Token usage</h2><div class="charts"><div class="chart">'
            f'<p class="small">{tokens["entropy_bits"]:.2f} bits of {math.log2(max(size, 2)):.2f}; '
            f'{percent(tokens["used_share"])} % of {size} tokens used, {sum(counts)} counted. '
            f"Dashed: even use.</p>{chart}</div></div></section>")


def _origin(exps: Sequence[Path]) -> str:
    out = []
    for exp in exps:
        results = read_results(exp)
        recogniser = results.get("recognizer") or {}
        facts = {"scores": exp, "command": results.get("command"),
                 "commit": results.get("commit"), "seed": results.get("seed"),
                 "hardware": results.get("hardware"),
                 "recogniser": ", ".join(map(str, recogniser.values())) or "none"}
        if results.get("training"):
            facts |= {"training": clock(results["train_seconds"]),
                      "all stages": clock(results["wall_seconds"])}
        rows = "".join(f"<dt>{k}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items())
        out.append(f"<dl>{rows}</dl>")
    return f'<section id="origin"><h2>Origin</h2>{"<hr>".join(out)}</section>'
