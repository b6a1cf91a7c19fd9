"""The report's section on training: losses, and the health of tokens, LM and RM."""

import json
import math
import re
from html import escape
from pathlib import Path
from typing import NamedTuple

from e2etts.provenance import TRAINING_STAGES
from e2etts.report.charts import Mark, Points, line_chart

EVENTS = ("recovered", "warning")  # splits of the log, and line classes of the page's style
NO_TERMS = ("loss", "audio_seconds_per_second")
COLOURS = 8  # line classes s0, s1, ... of the page's style


class Chart(NamedTuple):
    """Several logged values in one chart. names: a regular expression, whose group names a line;
    log: show log10."""

    title: str
    names: str
    unit: str
    log: bool = False


HEALTH = (
    Chart("Token entropy", r"token_entropy_bits", "bits"),
    Chart("Token entropy of each dimension", r"token_entropy_bits_(\d+)", "bits"),
    Chart("Use of the codes", r"used_share|token_entropy_share|least_dimension_share|saturated",
          "share"),
    Chart("Size before quantisation", r"pre_quant_rms", "root mean square"),
    Chart("Gradient at q, by weighted loss", r"q_grad_(.+)", "log10 of the norm", log=True),
    Chart("Share in the gradient at q, since each loss joined", r"q_share_(.+)", "share"),
    Chart("Weights that follow from a share", r"weight_(.+)", "log10 of the weight", log=True),
    Chart("Entropy of the LM", r"lm_entropy", "nats"),
    Chart("End token", r"(?:early_)?end_probability", "probability"),
    Chart("Length of the LM's samples", r"length_ratio", "tokens by those of recordings"),
    Chart("Errors recognised in the LM's samples", r"(?:rm|judge)_error(?:_recording)?",
          "edits per text token"),
    Chart("Score of samples by the RM", r"rm_nats", "nats per text token"),
)


def read_records(path: Path) -> list[dict]:
    """Records of a log.jsonl; broken lines are skipped: a run that was stopped may leave half of
    one."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    records = []
    for line in lines:
        try:
            row = json.loads(line)
            row["step"], row["split"] = float(row["step"]), str(row["split"])
        except (ValueError, KeyError, TypeError):
            continue
        records.append(row)
    return records


def curves(records: list[dict]) -> dict[str, dict[str, Points]]:
    """Name -> split -> [(step, value)], of training and dev set; null values are left out."""
    out: dict[str, dict[str, Points]] = {}
    for row in records:
        if row["split"] not in ("train", "dev"):
            continue
        for name, value in row.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) \
                    and math.isfinite(value) and name not in ("step", "seconds"):
                out.setdefault(name, {}).setdefault(row["split"], []).append(
                    (row["step"], float(value)))
    return out


def training_section(exp: Path) -> str:
    """Loss of every stage; for each stage its health, its events, and every other term; "" where
    nothing was trained."""
    others = sorted({p.parent.name for p in exp.glob("*/log.jsonl")} - set(TRAINING_STAGES))
    logs = {stage: read_records(exp / stage / "log.jsonl")
            for stage in (*TRAINING_STAGES, *others)}
    found = {stage: curves(records) for stage, records in logs.items()}
    marks = {s: [(r["step"], r["split"]) for r in log if r["split"] in EVENTS]
             for s, log in logs.items()}
    charts = [_term(s, "loss", c["loss"], marks[s]) for s, c in found.items() if "loss" in c]
    if not charts:
        return ""
    absent = [s for s, c in found.items() if "loss" not in c]
    note = f'<p class="soft">No log of: {escape(", ".join(absent))}.</p>' if absent else ""
    return ('<section id="training"><h2>Training: loss of every stage</h2>'
            f'<div class="charts">{"".join(charts)}</div>{note}{_events(logs)}'
            + "".join(_stage(s, c, marks[s]) for s, c in found.items()) + "</section>")


def _stage(stage: str, values: dict[str, dict[str, Points]], marks: list[Mark]) -> str:
    health = [_health(stage, chart, values, marks) for chart in HEALTH]
    terms = [_term(stage, name, splits, marks) for name, splits in values.items()
             if name not in NO_TERMS and not any(re.fullmatch(c.names, name) for c in HEALTH)]
    return "".join(
        f'<details><summary>{escape(stage)}: {what}</summary><div class="charts">'
        f'{"".join(pictures)}</div></details>'
        for what, pictures in (("health", health), ("every term", terms)) if any(pictures))


def _term(stage: str, name: str, splits: dict[str, Points], marks: list[Mark]) -> str:
    series = [(split, split, splits.get(split, [])) for split in ("train", "dev")]
    return _picture(stage if name == "loss" else name, f"{name} of stage {stage}", series, name,
                    marks)


def _health(stage: str, chart: Chart, values: dict[str, dict[str, Points]], marks: list[Mark]
            ) -> str:
    series = []
    for name in sorted(values):
        match = re.fullmatch(chart.names, name)
        if match:
            points = values[name].get("train") or values[name]["dev"]
            series.append((match[match.lastindex or 0], f"s{len(series) % COLOURS}", points))
    return _picture(chart.title, f"{chart.title}, stage {stage}", series, chart.unit, marks,
                    chart.log)


def _picture(title: str, label: str, series: list[tuple[str, str, Points]], unit: str,
             marks: list[Mark], log: bool = False) -> str:
    key = " ".join(f'<span class="small"><span class="key {style}"></span>{escape(name)}, last '
                   f"{points[-1][1]:.3g}</span>" for name, style, points in series if points)
    if log:
        series = [(name, style, [(x, math.log10(y)) for x, y in points if y > 0])
                  for name, style, points in series]
    if not any(points for _, _, points in series):
        return ""
    return (f'<div class="chart"><h3>{escape(title)}</h3>{key}'
            f'{line_chart(series, f"{label} against training steps", "steps", unit, marks)}</div>')


def _events(logs: dict[str, list[dict]]) -> str:
    rows = [f"<li>{escape(stage)}: {escape(_event(r))}</li>" for stage, records in logs.items()
            for r in records if r["split"] in EVENTS]
    return ("<h3>Recoveries (dashed in the charts) and warnings (dotted)</h3><ul>"
            f'{"".join(rows)}</ul>') if rows else ""


def _event(record: dict) -> str:
    if record["split"] == "warning":
        return str(record.get("message"))
    return (f"{record.get('reason')}; back to step {record.get('back_to')}, then at "
            f"{record.get('lr_scale')} of the learning rate")
