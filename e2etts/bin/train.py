"""Train one stage: dump/<train>, dump/<dev> -> exp/<tag>/<stage>; resumes an unfinished run.

examples:
  e2etts train lm --config conf/default.yaml
  e2etts train tokenizer --tag mine stages.tokenizer.weights.lm=0
"""

import argparse

from e2etts.cli import add_recipe_arguments, experiment_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stage", help="a key of the configuration's stages")
    add_recipe_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from e2etts.provenance import running_commit
    from e2etts.recipe import load_recipe
    from e2etts.stages.train import train_stage
    from e2etts.train.memory import keep_freed_memory

    recipe = load_recipe(args.config, args.overrides)
    keep_freed_memory()
    running_commit()  # starts git while this process is small
    train_stage(recipe, args.stage, experiment_folder(args))
