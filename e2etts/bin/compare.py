"""Compare systems on the same utterances: the mean of each over its runs, and the difference of the
first and each other, with 95 % intervals and p-values of a paired bootstrap.

A, B, ... are folders of experiments or of scored wavs, or their scores.jsonl (of e2etts score).
Separate the runs of a system, such as training seeds, by commas, in the same order for all.
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

from e2etts.errors import UserError
from e2etts.files import write_text
from e2etts.report.comparison import comparison_text
from e2etts.score.compare import compare, metrics_of, read_rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("systems", nargs="+", metavar="A",
                        help="folder or score file of a system, or of its runs, comma-separated")
    parser.add_argument("--system", metavar="NAME", help="recording, copy, tts, tts_prompt or "
                        "another in the file (default: its only one, or tts)")
    parser.add_argument("--system_b", metavar="NAME",
                        help="the same for B, C, ... (default: as for A)")
    parser.add_argument("--set", metavar="NAMES", help="sets, comma-separated (default: all)")
    parser.add_argument("--metric", metavar="NAMES", help="wer, cer, sim, dnsmos, dnsmos.sig, any "
                        "metric of e2etts score, seed_tts_eval_corpus_wer (default: all of A)")
    parser.add_argument("--samples", type=int, default=2000, metavar="N",
                        help="bootstrap samples (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="also write both tables to this file")


def run(args: argparse.Namespace) -> None:
    names = [name.split(",") for name in args.systems]
    if len({len(runs) for runs in names}) > 1:
        raise UserError(f"{', '.join(f'{a} runs' for a in map(len, names))}: runs are compared in "
                        "pairs, name as many of every system")
    systems = [[read_rows(run, args.system_b if i and args.system_b else args.system)
                for run in runs] for i, runs in enumerate(names)]
    metrics = args.metric.split(",") if args.metric else metrics_of(systems[0][0])
    means, differences = compare(systems, metrics, args.set.split(",") if args.set else None,
                                 args.samples)
    if not means or len(systems) > 1 and not differences:
        raise UserError(f"no utterance was scored in all of {', '.join(sum(names, []))} by "
                        f"{','.join(metrics) or 'any metric'}: check --set, --system and --metric")
    print(comparison_text(names, means, differences))
    if args.json:
        write_text(Path(args.json), json.dumps(
            {"systems": names, "means": means, "rows": differences}, indent=1) + "\n")
