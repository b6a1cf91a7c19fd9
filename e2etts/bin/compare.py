"""Systems on the same utterances: each with its mean over runs, and how the first differs from the
others, with 95 % intervals and p-values of a paired bootstrap.

A, B, ... are folders of experiments or of scored wavs, or their scores.jsonl (of e2etts score).
Several runs of a system, say with other seeds, are named with commas, in the same order for all.
One system alone gets the first table only.

examples:
  e2etts compare exp/mine exp/default
  e2etts compare mine_scores other_scores third_scores --metric seed_tts_eval_wer,seed_tts_eval_sim
  e2etts compare exp/a0,exp/a1,exp/a2 exp/b0,exp/b1,exp/b2 --json difference.json
  e2etts compare exp/default exp/default --system tts --system_b copy --set test_en
"""

import argparse
import json
from pathlib import Path
from typing import Any

from e2etts.errors import UserError
from e2etts.files import write_text
from e2etts.score.compare import Estimate, Rows, common, estimate, metrics_of, read_rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("systems", nargs="+", metavar="A",
                        help="folder or score file of a system, or of its runs with commas")
    parser.add_argument("--system", metavar="NAME", help="recording, copy, tts, tts_prompt or "
                        "another of the file (default: its only one, or tts)")
    parser.add_argument("--system_b", metavar="NAME", help="that of B and on (default: as of A)")
    parser.add_argument("--set", metavar="NAMES", help="sets, with commas (default: all)")
    parser.add_argument("--metric", metavar="NAMES", help="wer, cer, sim, dnsmos, dnsmos.sig, any "
                        "of e2etts score, seed_tts_eval_corpus_wer (default: all that A has)")
    parser.add_argument("--samples", type=int, default=2000, metavar="N",
                        help="bootstrap samples (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write both tables there too")


def run(args: argparse.Namespace) -> None:
    names = [name.split(",") for name in args.systems]
    if len({len(runs) for runs in names}) > 1:
        raise UserError(f"{', '.join(f'{a} runs' for a in map(len, names))}: runs are compared in "
                        "pairs, give as many of every system")
    systems = [[read_rows(run, args.system_b if i and args.system_b else args.system)
                for run in runs] for i, runs in enumerate(names)]
    sets = args.set.split(",") if args.set else None
    metrics = args.metric.split(",") if args.metric else metrics_of(systems[0][0])
    means = [row for m in metrics for row in own_means(systems, m, sets, args.samples)]
    pairs = [row for m in metrics for row in differences(systems, m, sets, args.samples)]
    if not means or len(systems) > 1 and not pairs:
        raise UserError(f"no utterance was scored in all of {', '.join(sum(names, []))} by "
                        f"{','.join(metrics) or 'any metric'}: check --set, --system and --metric")
    for i, runs in enumerate(names):
        print(f"{letter(i)}: {', '.join(runs)}")
    print("\n" + aligned(["metric", "", "mean", "95 % interval", "utterances", "each run"], [
        [r["metric"], r["system"], f"{r['mean']:.4f}", interval(r), str(r["utts"]),
         " ".join(f"{v:.4f}" for v in r["runs"])] for r in means]))
    if pairs:
        print("\n" + aligned(["metric", "", "difference", "95 % interval", "p", "utterances",
                              "runs", "left out"], [
            [r["metric"], f"{r['a_name']} - {r['b_name']}", f"{r['difference']:+.4f}",
             interval(r, "+"), "?" if r["p"] is None else f"{r['p']:.4f}", str(r["utts"]),
             str(r["runs"]), str(r["left_out"])] for r in pairs]))
        print("\nleft out: utterances that were not scored in every run of both")
    if args.json:
        write_text(Path(args.json), json.dumps({"systems": names, "means": means, "rows": pairs},
                                               indent=1) + "\n")


def own_means(systems: list[list[Rows]], metric: str, sets: list[str] | None,
              samples: int) -> list[dict[str, Any]]:
    """Each system by itself, over the utterances that all its runs have."""
    out = []
    for i, runs in enumerate(systems):
        if found := common([runs], metric, sets):
            (counts,), _ = found
            e = estimate(counts, samples=samples)
            out.append({"metric": metric, "system": letter(i), "mean": e.value, **bounds(e),
                        "utts": e.utts, "runs": counts.values().tolist()})
    return out


def differences(systems: list[list[Rows]], metric: str, sets: list[str] | None,
                samples: int) -> list[dict[str, Any]]:
    """The first system against each other one, over the utterances that both have."""
    out = []
    for i, other in enumerate(systems[1:], 1):
        if found := common([systems[0], other], metric, sets):
            (first, second), left_out = found
            e = estimate(first, second, samples=samples)
            out.append({"metric": metric, "a_name": "A", "b_name": letter(i),
                        "a": float(first.values().mean()), "b": float(second.values().mean()),
                        "difference": e.value, **bounds(e), "p": e.p, "utts": e.utts,
                        "runs": e.runs, "left_out": left_out})
    return out


def bounds(e: Estimate) -> dict[str, float | None]:
    return {"low": e.low, "high": e.high}


def letter(i: int) -> str:
    return chr(ord("A") + i)


def interval(row: dict[str, Any], sign: str = "") -> str:
    low, high = ("?" if v is None else f"{v:{sign}.4f}" for v in (row["low"], row["high"]))
    return f"[{low}, {high}]"


def aligned(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table whose columns stand below each other: the first two to the left."""
    wide = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = [":".ljust(w, "-") if i < 2 else ":".rjust(w, "-") for i, w in enumerate(wide)]
    return "\n".join("| " + " | ".join(
        c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, wide, strict=True))
    ) + " |" for row in (head, rule, *rows))
