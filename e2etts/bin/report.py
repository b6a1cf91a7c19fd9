"""Write RESULTS.md and report.html: one self-contained page to look at and to listen to.

Reads exp/TAG/results.json and scores.jsonl (of e2etts score), the wavs, the logs of the training
stages and tokens.json.

example:
  e2etts report --config conf/default.yaml
"""

import argparse

from e2etts.bin.main import add_recipe_arguments, experiment_folder
from e2etts.data.datadir import write_text
from e2etts.recipe import load_recipe
from e2etts.score.report import read_results, report_html
from e2etts.score.tables import results_markdown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser)


def run(args: argparse.Namespace) -> None:
    recipe = load_recipe(args.config, args.overrides)
    exp = experiment_folder(args)
    results = read_results(exp)
    page = report_html(exp, recipe.score)
    write_text(exp / "RESULTS.md", results_markdown(results))
    write_text(exp / "report.html", page)
    print(f"{exp / 'report.html'}: {len(page.encode()) / 2**20:.1f} MiB")
