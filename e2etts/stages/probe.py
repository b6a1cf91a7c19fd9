"""Statistics of the tokens of a checkpoint, and what its RM recognises in them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torchaudio.functional import edit_distance
from tqdm import tqdm

from e2etts.data.batch import Batch
from e2etts.data.dataset import MelDataset
from e2etts.data.loader import dev_batches
from e2etts.infer.pipeline import load_system
from e2etts.nets.system import PARTS, System
from e2etts.nets.tokenizer import Tokens
from e2etts.recipe import RecipeConfig
from e2etts.score.token_statistics import token_statistics

BATCH_SECONDS = 60.0


@torch.no_grad()
def probe_checkpoint(recipe: RecipeConfig, checkpoint: Path) -> dict[str, Any]:
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
    dataset = MelDataset(recipe.dump(name), recipe.audio, codes=recipe.codes)
    batches = dev_batches(dataset, BATCH_SECONDS)()
    for batch in tqdm(batches, desc=f"probe {name}", unit="batch", total=len(batches)):
        yield batch, system.encode(batch.mel, batch.mel_lens, batch.codes)


def _recognition(recipe: RecipeConfig, system: System, name: str) -> dict[str, list]:
    """Columns by utterance: edits of the greedy hypothesis, labels of the text, and whether the
    speaker is right (None where the RM does not know it, or has no classes)."""
    table: dict[str, list] = {"utts": [], "edits": [], "labels": [], "speaker_right": []}
    for batch, tokens in _encoded(recipe, system, name):
        h = system.rm.encode(tokens.q, tokens.lens)
        recognised = system.rm.read_ctc(h, tokens.lens)
        guesses = None
        if system.rm.classifies("speaker"):
            guesses = system.rm.classify("speaker", h, tokens.lens).argmax(-1)
        for i, utt in enumerate(batch.utts):
            text = batch.text[i, : batch.text_lens[i]].tolist()
            known = guesses is not None and int(batch.speaker[i]) >= 0
            table["utts"].append(utt)
            table["edits"].append(edit_distance(text, recognised[i].tolist()))
            table["labels"].append(len(text))
            table["speaker_right"].append(bool(guesses[i] == batch.speaker[i]) if known else None)
    return table
