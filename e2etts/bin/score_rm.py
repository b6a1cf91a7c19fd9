"""Measure the reward model alone, from the tokens of recordings: word error rate of its CTC
and of its attention decoder, accuracy of emotion and speaker, equal error rate of speakers.

Reads exp/TAG/STAGE/best and dump/<test set>; writes exp/TAG/rm.json, which e2etts score copies to
results.json and RESULTS.md.

examples:
  e2etts score-rm
  e2etts score-rm --system rm score.rm_snr_db=[10,0]
"""

import argparse
import json
from typing import Any

from e2etts.cli import add_checkpoint_argument, add_recipe_arguments, experiment_folder
from e2etts.files import write_text
from e2etts.recipe import load_recipe
from e2etts.report.formats import percent
from e2etts.stages.reward_model import measure_reward_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--system", default="joint", metavar="STAGE",
                        help="stage whose RM is measured (default: %(default)s)")
    add_checkpoint_argument(parser)
    add_recipe_arguments(parser)


def run(args: argparse.Namespace) -> None:
    root = experiment_folder(args)
    conditions = measure_reward_model(load_recipe(args.config, args.overrides),
                                      root / args.system / args.checkpoint, args.system, show)
    write_text(root / "rm.json", json.dumps(
        {"system": args.system, "conditions": conditions}, indent=1) + "\n")
    print(root / "rm.json")


def show(condition: str, found: dict[str, Any]) -> None:
    for name, numbers in found["sets"].items():
        rates = [f"{decoder} WER {percent(numbers[decoder]['wer'])} %"
                 for decoder in ("ctc", "attention") if decoder in numbers]
        rates += [f"{task} {percent(numbers[task]['accuracy'])} %"
                  for task in ("emotion", "speaker") if task in numbers]
        print(f"rm {name}, {condition}: {', '.join(rates)} ({numbers['n']} clips)")
