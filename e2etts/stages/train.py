"""Training of one stage: its data, its task, what it starts from, and the loop."""

from pathlib import Path

import yaml

from e2etts.config import to_dict, with_defaults
from e2etts.data.dataset import MelDataset
from e2etts.data.loader import dev_batches, training_stream
from e2etts.data.vocab import Vocab
from e2etts.files import files_sha256, read_json, write_text
from e2etts.nets.tokenizer import SpeechTokenizer
from e2etts.nets.whisper_encoder import WhisperEncoder
from e2etts.recipe import RecipeConfig, StageConfig, resolved
from e2etts.stages.start import complete, deciding, load_judge, model_config, starting_point
from e2etts.stages.token_cache import TokenCache
from e2etts.tasks.build import build_task
from e2etts.tasks.qwen3_weights import load_qwen3_lm
from e2etts.tasks.whisper_encoder_weights import load_whisper_encoder
from e2etts.train.loop import Trainer


def train_stage(recipe: RecipeConfig, name: str, root: Path) -> dict:
    """Train stage ``name`` in ``root/name`` and return its summary.

    Raises UserError for input that is missing or belongs to another configuration.
    """
    stage, folder = recipe.stage(name), root / name
    dump, config = Path(recipe.corpus.dump_dir), stage.train
    vocab = Vocab.load(dump)
    start = starting_point(recipe, name, root, vocab)
    task = build_task(recipe, name, vocab, start.tensors, load_judge(recipe, name, root, vocab))
    codes = recipe.codes if stage.trains_system else None
    encodes = codes is None and "tokens" not in recipe.cached(name)
    sets = {which: MelDataset(dump / which, recipe.audio, config=stage.data, vocab=vocab,
                              with_wav=task.needs_wav, with_mel=encodes or task.needs_mel,
                              codes=codes)
            for which in (recipe.corpus.train, recipe.corpus.dev)}
    if stage.pretrained_lm:
        load_qwen3_lm(task.system.lm, stage.pretrained_lm, f"stages.{name}.pretrained_lm",
                      None if recipe.text.published else dump / "text.model")
    if stage.trains_system and "tokenizer" not in start.origin:
        _load_published_encoder(task.system.tokenizer)
    nets = model_config(recipe, name, vocab)
    identity = {
        "stage": {k: v for k, v in to_dict(stage).items() if k not in ("train", "weights")},
        "model": deciding(nets), "start": start.origin,
        "prepared": {which: _stamp(dump / which, recipe.codes and recipe.codes[0])
                     for which in sets}}
    trainer = Trainer(
        task, config, folder=folder, weights=stage.weights, seed=recipe.seed, title=name,
        frame_rate_hz=recipe.audio.frame_rate_hz, identity=identity, complete=_complete,
        model_config=nets,
        train=training_stream(sets[recipe.corpus.train], config.batch_seconds,
                              seed=recipe.seed, workers=config.workers),
        dev=dev_batches(sets[recipe.corpus.dev], config.batch_seconds))
    trainer.resume()  # refuses before anything is written
    if recipe.cached(name):
        cache = TokenCache(recipe, name, task.system, root / "cache", trainer.accelerator)
        for which, data in sets.items():
            data.read_cache(*cache.of(which, identity["prepared"][which]))
    if trainer.accelerator.is_main_process:
        for warning in start.warnings:
            print(f"{name}: warning: {warning}")
        write_text(folder / "config.yaml", yaml.safe_dump(resolved(recipe), sort_keys=False,
                                                          allow_unicode=True))
    return trainer.run()


def _load_published_encoder(tokenizer: SpeechTokenizer) -> None:
    """Fill the encoder of a tokenizer that begins with a published one."""
    encoder = getattr(tokenizer, "encoder", None)
    if isinstance(encoder, WhisperEncoder):
        load_whisper_encoder(encoder, encoder.config.published, "model.tokenizer.encoder")


def _complete(identity: dict) -> dict:
    """A stored identity with the defaults of options that were added since."""
    return {**identity, "stage": with_defaults(StageConfig, identity["stage"]),
            "model": deciding(complete(identity["model"]))}


def _stamp(folder: Path, codes: str | None) -> str | None:
    """What tells one prepared set from another, its tokens included where these are read."""
    stamp = (read_json(folder / "stamp.json") or {}).get("stamp")
    if codes is not None:
        stamp = f"{stamp} {files_sha256([folder / f'{codes}.{end}' for end in ('scp', 'ark')])}"
    return stamp
