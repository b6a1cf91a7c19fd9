"""Measure the reward model on its own, from the tokens of recordings: word error rate of its CTC
and of its attention decoder, accuracy of emotion and speaker, equal error rate of speakers.

Reads exp/TAG/STAGE/best and dump/<test set>; writes exp/TAG/rm.json, which e2etts score takes into
results.json and RESULTS.md.

examples:
  e2etts score-rm
  e2etts score-rm --system rm score.rm_snr_db=[10,0]
"""

import argparse
import json
from pathlib import Path

import torch
from tqdm import tqdm

from e2etts.cli import add_checkpoint_argument, add_recipe_arguments, experiment_folder
from e2etts.data.batch import Batch
from e2etts.data.dataset import DataConfig, MelDataset
from e2etts.data.loader import dev_batches
from e2etts.data.noise import NoiseConfig
from e2etts.data.vocab import Vocab
from e2etts.files import write_text
from e2etts.nets.system import System
from e2etts.recipe import RecipeConfig, load_recipe
from e2etts.score.reward import Heard, heard_errors, summarise_rm
from e2etts.score.sections import percent
from e2etts.tasks.build import model_config, system_sizes
from e2etts.text import TextTokenizer
from e2etts.train.checkpoint import load_checkpoint, restore

BATCH_SECONDS = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--system", default="joint", metavar="STAGE",
                        help="stage whose RM is measured (default: %(default)s)")
    add_checkpoint_argument(parser)
    add_recipe_arguments(parser)


def run(args: argparse.Namespace) -> None:
    recipe = load_recipe(args.config, args.overrides)
    root = experiment_folder(args)
    dump = Path(recipe.corpus.dump_dir)
    vocab, tokenizer = Vocab.load(dump), TextTokenizer.load(dump / "text.model")
    folder = root / args.system / args.checkpoint
    tensors, _ = load_checkpoint(folder, model_config(recipe, args.system, vocab))
    system = System(recipe.model, system_sizes(recipe, vocab)).eval()
    restore(system, tensors, str(folder))
    conditions = {}
    for name, noise in [("clean", None), *((f"{snr:g} dB", NoiseConfig(
            probability=1.0, snr_db=(snr, snr))) for snr in recipe.score.rm_snr_db)]:
        heard = [h for test in recipe.corpus.tests
                 for h in listen(system, recipe, test, vocab, tokenizer, noise)]
        conditions[name] = summarise_rm(heard, recipe.score.bootstrap_samples, recipe.score.seed)
        for test, found in conditions[name]["sets"].items():
            rates = [f"{reader} WER {percent(found[reader]['wer'])} %"
                     for reader in ("ctc", "attention") if reader in found]
            rates += [f"{task} {percent(found[task]['accuracy'])} %"
                      for task in ("emotion", "speaker") if task in found]
            print(f"rm {test}, {name}: {', '.join(rates)} ({found['n']} clips)")
    write_text(root / "rm.json", json.dumps(
        {"system": args.system, "conditions": conditions}, indent=1) + "\n")
    print(root / "rm.json")


def listen(system: System, recipe: RecipeConfig, name: str, vocab: Vocab,
           tokenizer: TextTokenizer, noise: NoiseConfig | None) -> list[Heard]:
    """What the RM makes of every recording of a set."""
    dataset = MelDataset(recipe.dump(name), recipe.audio, vocab=vocab,
                         config=DataConfig(noise=noise))
    return [heard for batch in tqdm(dev_batches(dataset, BATCH_SECONDS)(), desc=f"rm {name}",
                                    unit="batch")
            for heard in listen_to(system, batch, name, vocab, tokenizer)]


@torch.no_grad()
def listen_to(system: System, batch: Batch, name: str, vocab: Vocab,
              tokenizer: TextTokenizer) -> list[Heard]:
    """What the RM makes of each row of a batch."""
    rm, tokens = system.rm, system.encode(batch.mel, batch.mel_lens)
    h = rm.encode(tokens.q, tokens.lens)
    texts = {"ctc": rm.read_ctc(h, tokens.lens)}
    if rm.decoder is not None:
        # No text is longer than the labels that CTC could give.
        longest = tokens.lens * rm.config.labels_per_token
        texts["attention"] = rm.read_attention(h, tokens.lens, longest)
    out = [Heard(name) for _ in batch.utts]
    for row, heard in enumerate(out):
        said = tokenizer.decode(batch.text[row, : batch.text_lens[row]].tolist())
        errors = {k: heard_errors(said, tokenizer.decode(v[row].tolist()))
                  for k, v in texts.items()}
        heard.errors = {k: e for k, e in errors.items() if e is not None}
    for task, names, labels in (("emotion", vocab.emotions, batch.emotion),
                                ("speaker", vocab.speakers, batch.speaker)):
        if task not in rm.heads:
            continue
        best = rm.classify(task, h, tokens.lens).argmax(-1).tolist()
        for heard, label, got in zip(out, labels.tolist(), best, strict=True):
            if label >= 0:
                setattr(heard, task, (names[label], names[got]))
    if "speaker" in rm.heads:
        voices = rm.summary("speaker", h, tokens.lens).float().numpy()
        for heard, voice in zip(out, voices, strict=True):
            heard.voice = voice
    return out
