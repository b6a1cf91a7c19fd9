"""Tokens of a frozen tokenizer, and text positions by a frozen RM, of the sets of a stage: computed
in one pass, and read from files by this stage and those after it.

``exp/<tag>/cache/<set>-<kind>-<key>.scp``; the key changes with all that decides the rows (weights,
their configuration, the prepared data), so that no stage reads rows of something else.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from e2etts.config import to_dict, without_training_options
from e2etts.data.batch import Batch
from e2etts.data.codes import Codes, Rows, write_codes
from e2etts.data.datadir import read_table, write_table
from e2etts.data.dataset import DataConfig, MelDataset
from e2etts.nets.system import System
from e2etts.recipe import RecipeConfig
from e2etts.stages.tokens import each_once, encoded, unpadded

FORMAT = 1  # of the rows; raise it where they come to mean something else


class TokenCache:
    """The rows that stage ``name`` reads. Those that ``folder`` lacks are computed on request, a
    part of them in each process, in float32 whatever the precision of training, as in synthesis.
    """

    def __init__(self, recipe: RecipeConfig, name: str, system: System, folder: Path,
                 accelerator: Accelerator):
        self.recipe, self.kinds, self.system = recipe, recipe.cached(name), system
        self.folder, self.accelerator = folder, accelerator

    def of(self, set_name: str, prepared: str | None) -> tuple[Codes | None, Rows | None]:
        """Tokens and text positions of a set, None of each that the stage does not cache.
        prepared: what tells this prepared set from another."""
        system, model = self.system, self.recipe.model
        data = MelDataset(self.recipe.dump(set_name), self.recipe.audio, codes=self.recipe.codes,
                          config=DataConfig(cached_tokens=True))
        source = [prepared, to_dict(self.recipe.audio), to_dict(system.sizes),
                  without_training_options(model.tokenizer), tensors_sha256(system.tokenizer)]
        codes = positions = None
        if "tokens" in self.kinds:
            name = self._written(set_name, "tokens", source, data)
            codes = Codes(self.folder, name, data.utts, system.tokenizer.codebook_size)
        if "positions" in self.kinds:
            source += [without_training_options(model.rm), tensors_sha256(system.rm)]
            data.with_mel = False
            data.read_cache(codes, None)
            name = self._written(set_name, "positions", source, data)
            positions = Rows(self.folder, name, data.utts)
        return codes, positions

    def _written(self, set_name: str, kind: str, source: list[Any], data: MelDataset) -> str:
        """Name of the files of a set's rows, written first where they are missing. source: all
        that decides the rows."""
        key = hashlib.sha256(json.dumps([FORMAT, *source], sort_keys=True).encode()).hexdigest()
        name = f"{set_name}-{kind}-{key[:12]}"
        table = self.folder / f"{name}.scp"
        missing, accelerator = not table.is_file(), self.accelerator
        accelerator.wait_for_everyone()  # all must have looked before one writes
        if not missing:
            return name
        self.folder.mkdir(parents=True, exist_ok=True)
        rank, ranks = accelerator.process_index, accelerator.num_processes
        parts = [f"{name}-{n + 1}of{ranks}" for n in range(ranks)]
        batches = tqdm(each_once(data, rank, ranks), f"{set_name}: {kind}", unit="batch",
                       disable=rank > 0)
        rows = {"tokens": encoded, "positions": aligned}[kind]
        write_codes(self.folder, parts[rank], rows(self.system, batches, accelerator.device))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            scps = [self.folder / f"{part}.scp" for part in parts]
            write_table(table, {u: v for scp in scps for u, v in read_table(scp).items()})
            for scp in scps:
                scp.unlink()
        accelerator.wait_for_everyone()
        return name


@torch.no_grad()
def aligned(system: System, batches: Iterable[Batch], device: torch.device | str
            ) -> Iterator[tuple[str, np.ndarray]]:
    """Each utterance of ``batches`` and the positions (N,) of its tokens in its text."""
    for batch in batches:
        batch = batch.to(device)
        tokens = system.encode(batch.mel, batch.mel_lens, batch.codes)
        position = system.text_positions(tokens.q, tokens.lens, batch.text, batch.text_lens)
        yield from unpadded(batch.utts, position, tokens.lens)


def tensors_sha256(module: nn.Module) -> str:
    """SHA-256 in hexadecimal of the parameters and saved buffers of a net, with their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
