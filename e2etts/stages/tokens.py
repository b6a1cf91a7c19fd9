"""Speech tokens of the prepared sets into files, for systems whose tokens come from files."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from e2etts.data.batch import Batch
from e2etts.data.codes import write_codes
from e2etts.data.dataset import MelDataset
from e2etts.data.loader import dev_batches
from e2etts.data.vocab import Vocab
from e2etts.errors import UserError
from e2etts.infer.pipeline import load_system
from e2etts.nets.system import System
from e2etts.recipe import RecipeConfig
from e2etts.stages.start import require_fit, system_config

BATCH_SECONDS = 60.0


class SetTokens(NamedTuple):
    """What was written of one set; used: number of different codes."""

    scp: Path
    utts: int
    tokens: int
    used: int


class TokenWriter:
    """Encodes the prepared sets of a recipe with the tokenizer of a checkpoint.

    Raises UserError for a checkpoint whose own tokens come from files, or that was trained for
    other mels or another tokenizer than those of the recipe.
    """

    def __init__(self, recipe: RecipeConfig, checkpoint: Path):
        system, meta = load_system(checkpoint)
        if system.tokenizer.reads_codes:
            raise UserError(f"{checkpoint}: the tokens of this system come from files: name the "
                            "system that made them")
        # A recipe whose tokens come from files may take them from any tokenizer of its mels.
        parts = ("mel",) if recipe.codes else ("tokenizer",)
        wanted = system_config(recipe, Vocab.load(recipe.corpus.dump_dir))
        require_fit(meta["config"], wanted, parts, str(checkpoint))
        self.recipe, self.device = recipe, "cuda" if torch.cuda.is_available() else "cpu"
        self.system: System = system.to(self.device)

    def write(self, set_name: str, name: str) -> SetTokens:
        """Write ``dump/<set>/<name>.ark`` and ``.scp``. Raises UserError for a set that is not
        prepared."""
        folder = self.recipe.dump(set_name)
        used, counts = np.zeros(self.system.tokenizer.codebook_size, dtype=bool), []

        def rows() -> Iterator[tuple[str, np.ndarray]]:
            for utt, row in self._encoded(set_name):
                used[row] = True
                counts.append(len(row))
                yield utt, row
        utts = write_codes(folder, name, rows())
        return SetTokens(folder / f"{name}.scp", utts, sum(counts), int(used.sum()))

    def _encoded(self, set_name: str) -> Iterator[tuple[str, np.ndarray]]:
        dataset = MelDataset(self.recipe.dump(set_name), self.recipe.audio)
        batches = tqdm(each_once(dataset), desc=f"tokens {set_name}", unit="batch")
        return encoded(self.system, batches, self.device)

    def section(self, name: str) -> dict[str, Any]:
        """``model.tokenizer`` of a recipe that trains on the tokens."""
        tokenizer = self.system.tokenizer
        section = {"kind": "codes", "ark": name, "codebook_size": tokenizer.codebook_size}
        if tokenizer.digit_levels is not None:
            section["levels"] = list(tokenizer.digit_levels)
        return section


def each_once(dataset: MelDataset, rank: int = 0, ranks: int = 1) -> Iterable[Batch]:
    """Batches of every utterance of a set, or of this process's part of them, alone and whole."""
    return dev_batches(dataset, BATCH_SECONDS, rank, ranks)()


@torch.no_grad()
def encoded(system: System, batches: Iterable[Batch], device: torch.device | str
            ) -> Iterator[tuple[str, np.ndarray]]:
    """Each utterance of ``batches`` and its tokens (N,) by the tokenizer of ``system``."""
    for batch in batches:
        batch = batch.to(device)
        tokens = system.encode(batch.mel, batch.mel_lens)
        yield from unpadded(batch.utts, tokens.index, tokens.lens)


def unpadded(utts: list[str], rows: torch.Tensor, lens: torch.Tensor
             ) -> Iterator[tuple[str, np.ndarray]]:
    """Each utterance and its valid part of rows (B, N)."""
    for utt, row, count in zip(utts, rows.cpu().numpy(), lens.tolist(), strict=True):
        yield utt, row[:count]


def sets_with_speech(recipe: RecipeConfig) -> list[str]:
    """Names of the sets whose recordings are read: train, dev, tests, zero-shot, enrolment."""
    corpus = recipe.corpus
    return list(dict.fromkeys((corpus.train, corpus.dev, *corpus.tests,
                               *corpus.zero_shot, *([corpus.enrol] if corpus.enrol else []))))
