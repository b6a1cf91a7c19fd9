"""Write report.html: one self-contained page to look at and to listen to.

In a recipe: reads exp/TAG/results.json and scores.jsonl (of e2etts score), the wavs, the logs of
the training stages and tokens.json; writes RESULTS.md too. Of any systems: --scores names the
folders that e2etts score wrote to, and the page shows them beside each other.

examples:
  e2etts report --config conf/default.yaml
  e2etts report --scores mine_scores,other_scores,exp/default --out page.html
"""

import argparse
from pathlib import Path

from e2etts.cli import add_recipe_arguments, experiment_folder
from e2etts.config import build, parse_overrides
from e2etts.errors import UserError
from e2etts.files import write_text
from e2etts.recipe import load_recipe
from e2etts.score.config import ScoreConfig
from e2etts.score.gather import read_results
from e2etts.score.report import report_html
from e2etts.score.tables import results_markdown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scores", metavar="A,B", help="folders with results.json, scores.jsonl")
    parser.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE",
                        help="the page of --scores (default: %(default)s)")
    add_recipe_arguments(parser)


def run(args: argparse.Namespace) -> None:
    if args.scores:
        exps, out = [Path(name) for name in args.scores.split(",")], args.out
        over = parse_overrides(args.overrides)
        if other := sorted(set(over) - {"score"}):
            raise UserError(f"'{other[0]}': with --scores only score.KEY=VALUE can be set")
        config = build(ScoreConfig, over.get("score", {}), "score")
    else:
        config = load_recipe(args.config, args.overrides).score
        exps = [experiment_folder(args)]
        out = exps[0] / "report.html"
        write_text(exps[0] / "RESULTS.md", results_markdown(read_results(exps[0])))
    page = report_html(exps, config)
    write_text(out, page)
    print(f"{out}: {len(page.encode()) / 2**20:.1f} MiB")
