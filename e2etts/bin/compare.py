"""Compare two systems on the utterances that both have spoken: differences, intervals, p-values.

A and B are folders of experiments, or their scores.jsonl (of e2etts score). Several runs of a
system, say with other seeds, are named with commas, in the same order for both.

examples:
  e2etts compare exp/mine exp/default
  e2etts compare exp/mine exp/default --set test_en --metric wer
  e2etts compare exp/a0,exp/a1,exp/a2 exp/b0,exp/b1,exp/b2 --json difference.json
  e2etts compare exp/default exp/default --system tts --system_b copy
"""

import argparse
import json
from pathlib import Path

from e2etts.data.datadir import write_text
from e2etts.errors import UserError
from e2etts.score.compare import estimate, paired, read_rows

METRICS = "wer,cer,sim,dnsmos.ovrl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="folder or score file, or several with commas")
    parser.add_argument("b", metavar="B", help="the other system, with as many runs")
    parser.add_argument("--system", default="tts", metavar="NAME",
                        help="recording, copy, tts, tts_prompt (default: %(default)s)")
    parser.add_argument("--system_b", metavar="NAME", help="that of B (default: as of A)")
    parser.add_argument("--set", metavar="NAMES", help="sets, with commas (default: all)")
    parser.add_argument("--metric", default=METRICS, metavar="NAMES",
                        help="wer, cer or numbers of the score file (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=2000, metavar="N",
                        help="bootstrap samples (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the comparison there too")


def run(args: argparse.Namespace) -> None:
    names = args.a.split(","), args.b.split(",")
    if len(names[0]) != len(names[1]):
        raise UserError(f"A names {len(names[0])} runs, B {len(names[1])}: runs are compared in "
                        "pairs, give as many of both")
    a = [read_rows(name, args.system) for name in names[0]]
    b = [read_rows(name, args.system_b or args.system) for name in names[1]]
    sets = args.set.split(",") if args.set else None
    rows = [compare(a, b, metric, sets, args.samples) for metric in args.metric.split(",")]
    rows = [row for row in rows if row]
    if not rows:
        raise UserError(f"no utterance was scored in all of {', '.join(names[0] + names[1])} by "
                        f"{args.metric}: check --set, --system and --metric")
    print(f"{'metric':12} {'A':>9} {'B':>9} {'A - B':>9}  {'95 % interval':>20} {'p':>7} "
          f"{'utterances':>10} {'runs':>4}")
    for r in rows:
        low, high = (f"{v:+.4f}" if v is not None else "?" for v in (r["low"], r["high"]))
        p = "?" if r["p"] is None else f"{r['p']:.4f}"
        print(f"{r['metric']:12} {r['a']:9.4f} {r['b']:9.4f} {r['difference']:+9.4f}  "
              f"{f'[{low}, {high}]':>20} {p:>7} {r['utts']:10d} {r['runs']:4d}")
        if r["left_out"]:
            print(f"{r['metric']:12} {r['left_out']} utterances left out: not scored in every run")
    if args.json:
        write_text(Path(args.json), json.dumps({"a": names[0], "b": names[1], "rows": rows},
                                               indent=1) + "\n")


def compare(a: list, b: list, metric: str, sets: list[str] | None, samples: int) -> dict | None:
    """One row of the comparison; None where the metric ran on no common utterance."""
    found = paired(a, b, metric, sets)
    if found is None:
        return None
    first, second, left_out = found
    e = estimate(first, second, samples=samples)
    return {"metric": metric, "a": float(first.values().mean()),
            "b": float(second.values().mean()), "difference": e.value, "low": e.low,
            "high": e.high, "p": e.p, "utts": e.utts, "runs": e.runs, "left_out": left_out}
