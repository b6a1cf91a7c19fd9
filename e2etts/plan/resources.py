"""Corpus and machines of an estimate."""

from dataclasses import dataclass

GIB = 2**30
# States that each GPU holds a share of (arXiv 1910.02054, stages 1 to 3).
SHARDING = {"none": (), "optimizer": ("optimiser",), "gradients": ("optimiser", "gradients"),
            "full": ("optimiser", "gradients", "weights", "EMA")}
# Of a GPU's memory; the rest is for its context, libraries and fragmentation.
USABLE = 0.9


@dataclass(frozen=True, kw_only=True)
class CorpusSize:
    """Hours of speech, length of an utterance, and text tokens per second."""

    hours: float
    utterance_seconds: float = 8.0
    text_tokens_a_second: float = 13.0


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """gpus, each of tflops (1e12 operations a second in the stage's precision) and gib; the share
    of tflops that training reaches; which states are sharded over them."""

    gpus: int = 1
    tflops: float = 148.0
    gib: float = 95.0
    utilisation: float = 0.4
    sharding: str = "none"
