"""Look into a stage's tokens: entropy, mutual information, and what the RM reads in them.

Encodes the prepared recordings: those of the training set for the statistics of tokens, those of
dev and test sets for the RM (label error rate of its CTC head, read greedily, and accuracy of its
speaker head). Writes exp/TAG/STAGE/probe.json.

examples:
  e2etts probe tokenizer
  e2etts probe joint --config conf/default.yaml
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torchaudio.functional import edit_distance
from tqdm import tqdm

from e2etts.bin.main import add_checkpoint_argument, add_recipe_arguments, experiment_folder
from e2etts.data.batch import Batch
from e2etts.data.dataset import MelDataset
from e2etts.data.loader import dev_batches
from e2etts.files import write_text
from e2etts.infer.pipeline import load_system
from e2etts.nets.system import PARTS, System
from e2etts.nets.tokenizer import Tokens
from e2etts.recipe import RecipeConfig, load_recipe
from e2etts.score.token_statistics import token_statistics

BATCH_SECONDS = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stage", help="stage whose system is looked into")
    add_checkpoint_argument(parser)
    add_recipe_arguments(parser)


def run(args: argparse.Namespace) -> None:
    recipe = load_recipe(args.config, args.overrides)
    folder = experiment_folder(args) / args.stage
    found = probe(recipe, folder / args.checkpoint)
    write_text(folder / "probe.json", json.dumps(found) + "\n")
    tokens = found["tokens"]
    print(f"{tokens['tokens']} tokens: entropy {tokens['entropy_bits']:.3f} bits, mutual "
          f"information {tokens['mutual_information_bits']:.3f} bits, "
          f"{100 * tokens['used_share']:.1f} % of {tokens['codebook_size']} codes used")
    for name, table in found["recognition"].items():
        rate = sum(table["edits"]) / sum(table["labels"])
        print(f"RM {name}: label error rate {100 * rate:.1f} % ({len(table['utts'])} recordings)")
    print(folder / "probe.json")


@torch.no_grad()
def probe(recipe: RecipeConfig, checkpoint: Path) -> dict[str, Any]:
    """{"parameters": by part, "tokens": statistics, "recognition": by set} of a checkpoint.

    Raises UserError for a checkpoint or prepared set that is missing."""
    system, _ = load_system(checkpoint)
    rows = [tokens.index[i, :n].numpy() for _, tokens in _encoded(recipe, system,
                                                                  recipe.corpus.train)
            for i, n in enumerate(tokens.lens.tolist())]
    return {"parameters": {part: sum(p.numel() for p in getattr(system, part).parameters())
                           for part in PARTS},
            "tokens": token_statistics(rows, system.tokenizer.codebook_size),
            "recognition": {name: _recognition(recipe, system, name)
                            for name in dict.fromkeys((recipe.corpus.dev, *recipe.corpus.tests))}}


def _encoded(recipe: RecipeConfig, system: System, name: str) -> Iterator[tuple[Batch, Tokens]]:
    dataset = MelDataset(recipe.dump(name), recipe.audio)
    batches = dev_batches(dataset, BATCH_SECONDS)()
    for batch in tqdm(batches, desc=f"probe {name}", unit="batch", total=len(batches)):
        yield batch, system.encode(batch.mel, batch.mel_lens)


def _recognition(recipe: RecipeConfig, system: System, name: str) -> dict[str, list]:
    """Columns by utterance: edits of the greedy reading, labels of the text, and whether the
    speaker is right (None where the RM does not know it)."""
    table: dict[str, list] = {"utts": [], "edits": [], "labels": [], "speaker_right": []}
    for batch, tokens in _encoded(recipe, system, name):
        h = system.rm.encode(tokens.q, tokens.lens)
        heard = system.rm.read_ctc(h, tokens.lens)
        guesses = None
        if "speaker" in system.rm.heads:
            guesses = system.rm.classify("speaker", h, tokens.lens).argmax(-1)
        for i, utt in enumerate(batch.utts):
            said = batch.text[i, : batch.text_lens[i]].tolist()
            known = guesses is not None and int(batch.speaker[i]) >= 0
            table["utts"].append(utt)
            table["edits"].append(edit_distance(said, heard[i].tolist()))
            table["labels"].append(len(said))
            table["speaker_right"].append(bool(guesses[i] == batch.speaker[i]) if known else None)
    return table
