"""Train a small text LM on the texts of a prepared train set, to start a recipe's LM from.

dump/<train>/text_ids -> OUT, in the form in which Qwen3 is published and with the sizes of
model.lm.trunk. Run in the recipe folder, after stage 2; then stages.lm.pretrained_lm=OUT.

examples:
  python ../../utils/text_lm.py exp/text_lm --config conf/prefix.yaml
  ./run.sh --config conf/prefix.yaml --tag text_lm stages.lm.pretrained_lm=exp/text_lm
"""

import argparse
import sys
from pathlib import Path

import torch

from e2etts.cli import add_overrides, tool
from e2etts.data.datadir import read_table
from e2etts.data.vocab import Vocab
from e2etts.errors import UserError
from e2etts.recipe import RecipeConfig, load_recipe
from e2etts.tasks.qwen3_weights import save_qwen3_lm
from e2etts.tasks.text_lm import TextLM, mean_loss, stream, train_steps

SHOW_EVERY = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--config", default="conf/default.yaml", metavar="FILE",
                        help="recipe configuration (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=600, metavar="N",
                        help="of 32 windows of 128 text tokens (default: %(default)s)")
    add_overrides(parser)


def run(args: argparse.Namespace) -> None:
    if args.steps < 1:
        raise UserError("--steps must be at least 1")
    recipe = load_recipe(args.config, args.overrides)
    if recipe.text.published:
        raise UserError(f"text.published: start from {recipe.text.published} itself")
    if not recipe.model.lm.trunk.qk_norm:
        raise UserError("model.lm.trunk.qk_norm: Qwen3 has it: set it to true")
    vocab = Vocab.load(recipe.corpus.dump_dir)
    torch.manual_seed(recipe.seed)
    model = TextLM(recipe.model.lm.trunk, vocab.text_size)
    train, dev = (_ids(recipe, name) for name in (recipe.corpus.train, recipe.corpus.dev))
    losses = train_steps(model, train, steps=args.steps, seed=recipe.seed)
    for step, loss in enumerate(losses, start=1):
        if step % SHOW_EVERY == 0 or step == args.steps:
            print(f"step {step}: {loss:.3f} nats per text token", flush=True)
    print(f"dev: {mean_loss(model, dev):.3f} nats per text token")
    save_qwen3_lm(args.out, model.trunk, model.text, model.head,
                  Path(recipe.corpus.dump_dir) / "text.model")
    print(f"{args.out}: {len(train)} text tokens, {args.steps} steps")


def _ids(recipe: RecipeConfig, name: str) -> torch.Tensor:
    texts = read_table(recipe.dump(name) / "text_ids").values()
    return stream([int(i) for i in text.split()] for text in texts)


if __name__ == "__main__":
    sys.exit(tool(__file__, __doc__, add_arguments, run))
