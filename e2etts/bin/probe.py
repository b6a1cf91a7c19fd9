"""Measure the tokens of a stage: entropy, mutual information, and recognition by its RM.

Encodes the prepared recordings: those of the training set for token statistics, those of dev and
test sets for the RM (label error rate of its CTC head with greedy decoding, and accuracy of its
speaker head). Writes exp/TAG/STAGE/probe.json of a stage of this run, exp/TAG/probe.json of the
folder of a stage, checkpoint or pack.

examples:
  e2etts probe tokenizer
  e2etts probe joint --config conf/default.yaml
  e2etts probe packs/theirs --tag theirs
"""

import argparse
import json

from e2etts.cli import add_checkpoint_argument, add_recipe_arguments, experiment_folder
from e2etts.files import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE",
                        help="stage of this run, or folder of a stage, checkpoint or pack, whose "
                             "tokenizer and RM are measured")
    add_checkpoint_argument(parser)
    add_recipe_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from e2etts.recipe import load_recipe
    from e2etts.stages.probe import probe_checkpoint
    from e2etts.stages.start import checkpoint_folder

    recipe, root = load_recipe(args.config, args.overrides), experiment_folder(args)
    found = probe_checkpoint(recipe, checkpoint_folder(args.source, recipe, root,
                                                       which=args.checkpoint))
    folder = root / args.source if args.source in recipe.stages else root
    write_text(folder / "probe.json", json.dumps(found) + "\n")
    tokens = found["tokens"]
    print(f"{tokens['tokens']} tokens: entropy {tokens['entropy_bits']:.3f} bits, mutual "
          f"information {tokens['mutual_information_bits']:.3f} bits, "
          f"{100 * tokens['used_share']:.1f} % of {tokens['codebook_size']} codes used")
    for name, table in found["recognition"].items():
        rate = sum(table["edits"]) / sum(table["labels"])
        print(f"RM {name}: label error rate {100 * rate:.1f} % ({len(table['utts'])} recordings)")
    print(folder / "probe.json")
