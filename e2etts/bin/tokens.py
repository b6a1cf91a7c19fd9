"""Write the speech tokens of all prepared recordings, to train systems with tokens from files.

Encodes the sets train, dev, tests and enrol of the recipe with the tokenizer of a trained system
and writes dump/SET/NAME.ark and NAME.scp (Kaldi integer vectors) beside the mels.

examples:
  e2etts tokens --system tokenizer
  e2etts tokens --system exp/default/tokenizer --name codes --config conf/codes.yaml
"""

import argparse

from e2etts.cli import add_recipe_arguments, experiment_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--system", default="joint", metavar="SOURCE",
                        help="stage of this run, or the folder of a stage, checkpoint or pack "
                             "(default: %(default)s)")
    parser.add_argument("--name", default="codes", help="of the files (default: %(default)s)")
    add_recipe_arguments(parser)


def run(args: argparse.Namespace) -> None:
    import yaml

    from e2etts.recipe import load_recipe
    from e2etts.stages.start import checkpoint_folder
    from e2etts.stages.tokens import TokenWriter, sets_with_speech

    recipe = load_recipe(args.config, args.overrides)
    writer = TokenWriter(recipe, checkpoint_folder(args.system, recipe, experiment_folder(args)))
    section = writer.section(args.name)
    for name in sets_with_speech(recipe):
        done = writer.write(name, args.name)
        print(f"{done.scp}: {done.utts} utterances, {done.tokens} tokens, {done.used} of "
              f"{section['codebook_size']} codes used")
    print("to train on them: model.tokenizer: "
          f"{yaml.safe_dump(section, default_flow_style=True, sort_keys=False, width=1000)}",
          end="")
