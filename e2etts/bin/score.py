"""Measure the spoken sets: word and character error rates, speaker similarity, DNSMOS, durations,
and, where styles were asked for, whether they are recognised.

Reads exp/TAG/wavs/SYSTEM/SET/manifest.jsonl; writes exp/TAG/results.json, scores.jsonl (every
clip) and RESULTS.md. Nothing that was measured before is measured again (score_cache.json).

examples:
  e2etts score
  e2etts score --tag mine score.recognizer=models/whisper-base
  e2etts score score.metrics=[wer] score.workers=4
"""

import argparse
import shlex
import sys
from pathlib import Path

from e2etts.bin.main import add_recipe_arguments
from e2etts.data.datadir import write_text
from e2etts.recipe import load_recipe
from e2etts.score.results import score_experiment
from e2etts.score.style import labelled_recordings
from e2etts.score.tables import percent, results_markdown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser)


def run(args: argparse.Namespace) -> None:
    recipe = load_recipe(args.config, args.overrides)
    tag = args.tag or Path(args.config).stem
    exp = Path("exp") / tag
    words = ["./run.sh", "--config", args.config, "--tag", tag, *args.overrides]
    results = score_experiment(exp, recipe.score, recipe.seed, shlex.join(words), say,
                               labelled_recordings(recipe.dump(recipe.corpus.train)))
    write_text(exp / "RESULTS.md", results_markdown(results))
    for system, sets in results["systems"].items():
        for name, cell in sets.items():
            print(f"{system} {name}: WER {percent(cell['wer'])} % CER {percent(cell['cer'])} % "
                  f"({cell['n']} clips)")
    print(f"{results['scored']} clips scored of {results['expected']} expected; "
          f"{exp / 'results.json'}, {exp / 'RESULTS.md'}")


def say(line: str) -> None:
    print(line, file=sys.stderr)
