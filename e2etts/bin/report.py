"""Write report.html: one self-contained page with tables, players and charts.

In a recipe: reads exp/TAG/results.json and scores.jsonl (of e2etts score), the wavs, the logs of
the training stages and tokens.json; writes RESULTS.md too. Of any systems: --scores names the
folders that e2etts score wrote to, and the page shows them side by side.

examples:
  e2etts report --config conf/default.yaml
  e2etts report --scores mine_scores,other_scores,exp/default --out page.html
"""

import argparse
from pathlib import Path

from e2etts.cli import add_recipe_arguments, experiment_folder
from e2etts.files import write_text
from e2etts.recipe import load_recipe
from e2etts.report.page import report_html
from e2etts.report.results_markdown import results_markdown
from e2etts.score.config import config_of
from e2etts.score.score_files import read_results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scores", metavar="A,B", help="folders with results.json, scores.jsonl")
    parser.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE",
                        help="output of --scores (default: %(default)s)")
    add_recipe_arguments(parser)


def run(args: argparse.Namespace) -> None:
    if args.scores:
        exps, out = [Path(name) for name in args.scores.split(",")], args.out
        config = config_of({}, args.overrides, "--scores")
    else:
        config = load_recipe(args.config, args.overrides).score
        exps = [experiment_folder(args)]
        out = exps[0] / "report.html"
        write_text(exps[0] / "RESULTS.md", results_markdown(read_results(exps[0])))
    page = report_html(exps, config)
    write_text(out, page)
    print(f"{out}: {len(page.encode()) / 2**20:.1f} MiB")
