"""A trained e2etts system as a judge: its tokenizer, and its reward model as a recogniser.

The reward model took part in training, so its figures are a check and no independent judgement.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2etts.data.vocab import Vocab
from e2etts.errors import UserError
from e2etts.files import file_sha256
from e2etts.score.meter import Measure, Meter, WavJob, each

FORM = "a pack's folder, or exp/TAG/STAGE/best:DUMP"


@dataclass(frozen=True)
class TrainedSystem:
    """Paths of a trained system: its two checkpoints and the folder of text.model, vocab.json."""

    checkpoint: str
    vocoder: str
    dump: str
    identity: str

    @classmethod
    def at(cls, where: str) -> "TrainedSystem":
        """From a pack's folder, or ``exp/TAG/STAGE/best:DUMP``.

        Raises UserError where there is no system.
        """
        first, _, dump = where.partition(":")
        folder = Path(first)
        checkpoint, vocoder = ((folder, folder.parents[1] / "vocoder" / folder.name) if dump
                               else (folder / "joint", folder / "vocoder"))
        weights = checkpoint / "model.safetensors"
        if not weights.is_file():
            raise UserError(f"{weights}: no such file; pass {FORM}")
        return cls(str(checkpoint), str(vocoder), dump or first, file_sha256(weights))

    def load(self, device: str) -> Any:
        """The Synthesizer. Raises UserError as that does."""
        from e2etts.infer.pipeline import Synthesizer
        from e2etts.synthesis_config import SynthesisConfig

        return Synthesizer.load(self.checkpoint, self.vocoder, self.dump, SynthesisConfig(),
                                device)


def encoder(synthesizer: Any) -> Callable[[Path], Any]:
    """f(path of a wav) -> its speech tokens (T,)."""
    from e2etts.audio import load_wav_as

    rate_hz = synthesizer.audio.sample_rate_hz
    return lambda path: synthesizer.encode([load_wav_as(path, rate_hz)])[0]


def trunk(synthesizer: Any) -> Callable[[Path], tuple[Any, Any]]:
    """f(path of a wav) -> output of the RM's trunk for its speech tokens (1, T, D), and (T,)."""
    import torch

    encode, system, device = encoder(synthesizer), synthesizer.system, synthesizer.device

    @torch.no_grad()
    def states(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = encode(path).to(device)[None]
        lens = torch.tensor([tokens.shape[1]], device=device)
        return system.rm.encode(system.tokenizer.embed(tokens), lens), lens

    return states


@dataclass(frozen=True)
class SystemMeter(Meter):
    """A metric that a trained system measures, on wavs read at its own rate."""

    system: TrainedSystem

    def load(self, job: WavJob) -> Path:
        return job.path


@dataclass(frozen=True)
class RewardMeter(SystemMeter):
    """Recognition of the speech tokens of a wav by the RM's CTC head, greedily."""

    name: str = "wer"

    def describe(self) -> dict[str, str]:
        return {"name": "reward model, greedy CTC (not comparable with other recognisers)",
                "source": self.system.checkpoint, "model_sha256": self.system.identity}

    def understands(self, lang: str) -> bool:
        return lang in Vocab.load(self.system.dump).languages

    def key(self, lang: str) -> str:
        return f"rm {self.system.identity}"

    def open(self, device: str) -> Measure:
        import torch

        synthesizer = self.system.load(device)
        if synthesizer.text.phonemes:
            raise UserError("this reward model recognises phonemes, not words: choose another "
                            "recogniser")
        states, rm = trunk(synthesizer), synthesizer.system.rm

        @torch.no_grad()
        def measure(path: Path, lang: str) -> str:
            [labels] = rm.read_ctc(*states(path))
            return synthesizer.tokenizer.decode(labels.tolist())

        return each(measure)
