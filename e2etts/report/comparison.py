"""The tables of ``e2etts compare``."""

from typing import Any

from e2etts.score.compare import letter
from e2etts.tables import table


def comparison_text(names: list[list[str]], means: list[dict[str, Any]],
                    differences: list[dict[str, Any]]) -> str:
    """Both tables of ``compare``, for a terminal. names: the runs of each system."""
    lines = [f"{letter(i)}: {', '.join(runs)}" for i, runs in enumerate(names)]
    lines += ["", *table(
        ["metric", "", "mean", "95 % interval", "utterances", "each run"],
        [[r["metric"], r["system"], f"{r['mean']:.4f}", _interval(r), r["utts"],
          " ".join(f"{v:.4f}" for v in r["runs"])] for r in means], left=2, pad=True)]
    if differences:
        lines += ["", *table(
            ["metric", "", "difference", "95 % interval", "p", "utterances", "runs", "left out"],
            [[r["metric"], f"{r['a_name']} - {r['b_name']}", f"{r['difference']:+.4f}",
              _interval(r, "+"), "?" if r["p"] is None else f"{r['p']:.4f}", r["utts"], r["runs"],
              r["left_out"]] for r in differences], left=2, pad=True),
                  "", "left out: utterances that were not scored in every run of both"]
    return "\n".join(lines)


def _interval(row: dict[str, Any], sign: str = "") -> str:
    low, high = ("?" if v is None else f"{v:{sign}.4f}" for v in (row["low"], row["high"]))
    return f"[{low}, {high}]"
