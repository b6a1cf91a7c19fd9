"""A system so small that all of its roll-outs can be listed."""

import itertools
from dataclasses import replace

import torch
from tiny import SPEAKER_DIM, sizes, system_config, wake

from e2etts.infer.sampling import Rollout
from e2etts.nets.lm import LMCondition
from e2etts.nets.system import System

CODES = 2


def smallest_system(text_input: str, seed: int = 0, std: float = 0.2) -> System:
    """Two codes; its LM has preferences."""
    torch.manual_seed(seed)
    config = system_config(text_input=text_input)
    config = replace(config, tokenizer=replace(config.tokenizer, levels=(CODES,)))
    return wake(System(config, sizes()), seed, std=std)


def one_text(letters: int = 2) -> LMCondition:
    g = torch.Generator().manual_seed(0)
    return LMCondition(torch.arange(1, letters + 1)[None], torch.tensor([letters]),
                       torch.tensor([0]), torch.randn(1, SPEAKER_DIM, generator=g))


def every_rollout(letters: int, shortest: int, longest: int, stay: int | None) -> Rollout:
    """All that can be generated for a text: ``shortest`` to ``longest`` tokens, of which
    ``longest`` without an end; stay: most tokens at a text position, None for an LM without
    aligned text_input."""
    rows = []
    for size, ended in [*((n, True) for n in range(shortest, longest)), (longest, False)]:
        paths = [None] if stay is None else list(_paths(letters, size, stay, shortest))
        rows += [(index, size, ended, path) for path in paths
                 for index in itertools.product(range(CODES), repeat=size)]

    def padded(values):
        return torch.tensor([[*v, *(0,) * (longest - len(v))] for v in values])
    return Rollout(padded([r[0] for r in rows]), torch.tensor([r[1] for r in rows]),
                   torch.tensor([r[2] for r in rows]),
                   None if stay is None else padded([r[3] for r in rows]))


def _paths(letters: int, size: int, stay: int, shortest: int):
    """Text positions of ``size`` tokens, the first one before the text. Only a row that must not
    end yet stays for longer, at the end of the text."""
    for moves in itertools.combinations_with_replacement(range(-1, letters), size - 1):
        path = (-1, *moves)
        if all(path[:t].count(p) < stay or (p == letters - 1 and t < shortest)
               for t, p in enumerate(path)):
            yield path
