"""Measure the speed of training steps and synthesis, and compare with well-known peers.

Cases are timed in turns and medians are reported, so that ratios hold on a machine whose speed
drifts. Data and weights are random: nothing has to be prepared. Peers that are not installed are
listed as missing (tools/install.sh --extras bench installs them).

examples:
  e2etts bench                                       everything, at the size of conf/default.yaml
  e2etts bench --larger conf/larger.yaml             and the steps of a larger system
  e2etts bench --part peers --pair lm_step --pair vocoder --rounds 9
  e2etts bench --out bench.json --floor lm_step=1.1  exit status 1 if a ratio is below its floor
"""

import argparse
import json
import sys
from pathlib import Path

from e2etts.bench import PARTS
from e2etts.cli import add_overrides
from e2etts.errors import UserError
from e2etts.files import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", default="conf/default.yaml", metavar="FILE",
                        help="recipe configuration (default: %(default)s)")
    parser.add_argument("--larger", metavar="FILE",
                        help="a second configuration, whose training steps alone are measured")
    parser.add_argument("--rounds", type=int, default=5,
                        help="counted rounds (default: %(default)s)")
    parser.add_argument("--part", action="append", metavar="PART", default=[],
                        help=f"measure only this part: {', '.join(PARTS)}; may be repeated")
    parser.add_argument("--pair", action="append", metavar="NAME", default=[],
                        help="measure only this comparison with a peer; may be repeated")
    parser.add_argument("--floor", action="append", metavar="NAME=RATIO", default=[],
                        help="fail if this comparison is below RATIO; may be repeated")
    parser.add_argument("--out", metavar="JSON",
                        help="write the numbers to this file, and the table beside it as .md")
    add_overrides(parser)


def run(args: argparse.Namespace) -> None:
    from e2etts.bench.suite import run_suite, suite_table
    from e2etts.recipe import load_recipe
    from e2etts.train.memory import keep_freed_memory

    if args.rounds < 1:
        raise UserError(f"--rounds {args.rounds}: must be at least 1")
    floors = dict(map(_floor, args.floor))
    recipes = {Path(c).stem: load_recipe(c, args.overrides)
               for c in (args.config, args.larger) if c}
    keep_freed_memory()  # as training does
    results = run_suite(recipes, args.rounds, set(args.part or PARTS), args.pair,
                      lambda text: print(f"bench: {text}", file=sys.stderr))
    if args.out:
        write_text(args.out, json.dumps(results, indent=1) + "\n")
        write_text(Path(args.out).with_suffix(".md"), suite_table(results) + "\n")
    print(suite_table(results))
    slow = [f"{name}: {results['ratios'][name]:.2f} times as fast, floor {floor}"
            for name, floor in floors.items()
            if name in results["ratios"] and results["ratios"][name] < floor]
    absent = [name for name in floors if name not in results["ratios"]]
    if absent:
        raise UserError(f"--floor {absent[0]}: was not measured "
                        f"({results['missing'].get(absent[0], 'no such comparison requested')})")
    if slow:
        print("bench: slower than its floor: " + "; ".join(slow), file=sys.stderr)
        sys.exit(1)


def _floor(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError as e:
        raise UserError(f"--floor {text}: expected NAME=RATIO") from e
