"""Prepare text tokens, mel spectrograms and labels: data/<set> -> dump/<set> (stage 2).

examples:
  e2etts prepare --config conf/default.yaml
  e2etts prepare --config conf/default.yaml text.phonemes=false
"""

import argparse

from e2etts.cli import add_recipe_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser)
    parser.add_argument("--workers", type=int, default=2, metavar="N",
                        help="worker processes (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    from e2etts.data.dump import prepare
    from e2etts.recipe import load_recipe

    recipe = load_recipe(args.config, args.overrides)
    corpus = recipe.corpus
    enrol = [corpus.enrol] if corpus.enrol else []
    prepare(corpus.data_dir, corpus.dump_dir, train=corpus.train,
            sets=[corpus.train, corpus.dev, *corpus.tests, *corpus.zero_shot, *enrol,
                  *corpus.sentences],
            zero_shot=corpus.zero_shot, audio=recipe.audio, text=recipe.text, workers=args.workers,
            extends=recipe.extends.dump if recipe.extends else None)
