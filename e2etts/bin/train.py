"""Train one stage: dump/<train>, dump/<dev> -> exp/<tag>/<stage>; an unfinished run goes on.

examples:
  e2etts train lm --config conf/default.yaml
  e2etts train tokenizer --tag mine stages.tokenizer.weights.lm=0
"""

import argparse
import json
from pathlib import Path

import yaml

from e2etts.bin.main import add_recipe_arguments, experiment_folder
from e2etts.config import to_dict
from e2etts.data.dataset import MelDataset
from e2etts.data.loader import dev_batches, training_stream
from e2etts.data.vocab import Vocab
from e2etts.files import write_text
from e2etts.provenance import running_commit
from e2etts.recipe import RecipeConfig, load_recipe, resolved
from e2etts.tasks.build import build_task, model_config, system_sizes
from e2etts.train.checkpoint import load_checkpoint, require_same
from e2etts.train.grow import check_extends, grown
from e2etts.train.loop import Trainer
from e2etts.train.memory import keep_freed_memory
from e2etts.train.pretrained import start_from_published


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stage", help="a key of the configuration's stages")
    add_recipe_arguments(parser)


def run(args: argparse.Namespace) -> None:
    recipe = load_recipe(args.config, args.overrides)
    root = experiment_folder(args)
    keep_freed_memory()
    running_commit()  # while this process is small
    train_stage(recipe, args.stage, root)


def train_stage(recipe: RecipeConfig, name: str, root: Path) -> dict:
    """Train stage ``name`` in ``root/name`` and return its summary.

    Raises UserError for input that is missing or belongs to another configuration.
    """
    stage, folder = recipe.stage(name), root / name
    dump = Path(recipe.corpus.dump_dir)
    vocab = Vocab.load(dump)
    sets = {which: MelDataset(dump / which, recipe.audio, config=stage.data, vocab=vocab,
                              with_wav=stage.task == "vocoder")
            for which in (recipe.corpus.train, recipe.corpus.dev)}
    start, origin = None, {}
    if stage.init is not None:
        start, origin = load_checkpoint(root / stage.init / "best",
                                        model_config(recipe, stage.init, vocab))
    elif recipe.extends and stage.task != "vocoder":
        start, origin = extended(recipe, name, vocab)
    judge = None
    if stage.judge is not None:
        judge, _ = load_checkpoint(root / stage.judge / "best",
                                   model_config(recipe, stage.judge, vocab))
    task = build_task(recipe, name, vocab, start, judge)
    if stage.pretrained_lm:
        start_from_published(task.system.lm, stage.pretrained_lm, f"stages.{name}.pretrained_lm")
    config = stage.train
    identity = {
        **{k: v for k, v in to_dict(stage).items() if k not in ("train", "weights")},
        "model": model_config(recipe, name, vocab),
        "start": {k: origin.get(k) for k in ("fingerprint", "step")},
        "prepared": {which: _stamp(dump / which) for which in sets}}
    trainer = Trainer(
        task, config, folder=folder, weights=stage.weights, seed=recipe.seed, title=name,
        frame_rate_hz=recipe.audio.frame_rate_hz, identity=identity,
        model_config=model_config(recipe, name, vocab),
        train=training_stream(sets[recipe.corpus.train], config.batch_seconds,
                              seed=recipe.seed, workers=config.workers),
        dev=dev_batches(sets[recipe.corpus.dev], config.batch_seconds))
    trainer.resume()  # refuses before anything is written
    if trainer.accelerator.is_main_process:
        write_text(folder / "config.yaml", yaml.safe_dump(resolved(recipe), sort_keys=False,
                                                          allow_unicode=True))
    return trainer.run()


def extended(recipe: RecipeConfig, name: str, vocab: Vocab) -> tuple[dict, dict]:
    """Tensors for stage ``name`` from the system that the recipe extends, and its meta.json.

    Raises UserError where anything but the vocabularies differs.
    """
    where, wanted = recipe.extends.checkpoint, model_config(recipe, name, vocab)
    tensors, origin = load_checkpoint(where)
    old = Vocab.load(recipe.extends.dump)
    check_extends(vocab, old, recipe.extends.dump)
    stored = origin.get("config", {})
    require_same(stored, {**wanted, "sizes": to_dict(system_sizes(recipe, old))}, where)
    fresh = build_task(recipe, name, vocab).state_to_save()
    return grown(tensors, fresh), origin


def _stamp(folder: Path) -> str | None:
    path = folder / "stamp.json"
    return json.loads(path.read_text())["stamp"] if path.is_file() else None
