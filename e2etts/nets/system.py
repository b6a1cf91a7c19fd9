"""The bundle: tokenizer, LM, FM, RM and speaker encoder around the seam q.

Legend: B batch, F mel frames, M mel bands, T tokens, Q size of q, X size of a voice.
"""

from dataclasses import dataclass, field

import torch
from torch import nn

from e2etts.nets.fm import FM, FMConfig
from e2etts.nets.lm import LM, LMConfig
from e2etts.nets.reward import RM, RMConfig
from e2etts.nets.speaker import SpeakerConfig, SpeakerEncoder
from e2etts.nets.tokenizer import Tokenizer, TokenizerConfig, Tokens


@dataclass(frozen=True, kw_only=True)
class StyleConfig:
    """The emotion label of an utterance as a condition: of the LM, and of the FM with ``fm``.
    drop: share of training rows whose label is hidden, so that speaking without one is learned
    from them as well as from rows that have none."""

    drop: float = 0.1
    fm: bool = True

    def __post_init__(self):
        if not 0 <= self.drop <= 1:
            raise ValueError("drop must be between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class SystemConfig:
    """One section a model. style: None for a system that cannot be asked for one."""

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    lm: LMConfig = field(default_factory=LMConfig)
    fm: FMConfig = field(default_factory=FMConfig)
    rm: RMConfig = field(default_factory=RMConfig)
    speaker: SpeakerConfig = field(default_factory=SpeakerConfig)
    style: StyleConfig | None = None


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the data decide: counts of text tokens and labels, and the scale of log-mel."""

    mel_bands: int
    frames_per_token: int
    text_vocab: int
    languages: int
    speakers: int
    emotions: int
    mel_mean: float
    mel_std: float


PARTS = ("tokenizer", "lm", "fm", "rm", "speaker")


class System(nn.Module):
    """Everything between text and mel. Mels outside are natural-log; inside they are normalised
    to zero mean and unit variance.

    trainable: parts that learn, see ``train_only``.
    """

    trainable: tuple[str, ...] = PARTS

    def __init__(self, config: SystemConfig, sizes: Sizes):
        """Raises ValueError for a style condition without labels to learn it from."""
        super().__init__()
        if config.style and not sizes.emotions:
            raise ValueError("model.style: the training data have no emotion labels (utt2emo)")
        styles = sizes.emotions + 1 if config.style else 0
        self.config, self.sizes = config, sizes
        q_dim, voice_dim = config.tokenizer.q_dim, config.speaker.voice_dim
        self.tokenizer = Tokenizer(config.tokenizer, mel_bands=sizes.mel_bands,
                                   frames_per_token=sizes.frames_per_token)
        fsq = self.tokenizer.fsq
        # Two tokens hold at most so many labels of the RM, by which places in the text are found.
        self.lm = LM(config.lm, text_vocab=sizes.text_vocab, languages=sizes.languages,
                     digits=fsq.to_digits(torch.arange(fsq.codebook_size)), q_dim=q_dim,
                     voice_dim=voice_dim, advances=2 * config.rm.labels_per_token + 1,
                     styles=styles)
        self.fm = FM(config.fm, q_dim=q_dim, voice_dim=voice_dim, mel_bands=sizes.mel_bands,
                     frames_per_token=sizes.frames_per_token,
                     styles=styles if config.style and config.style.fm else 0)
        self.rm = RM(config.rm, q_dim=q_dim, text_vocab=sizes.text_vocab,
                     speakers=sizes.speakers, emotions=sizes.emotions)
        self.speaker = SpeakerEncoder(config.speaker, mel_bands=sizes.mel_bands)

    def normalise(self, mel: torch.Tensor) -> torch.Tensor:
        """Natural-log mel -> zero mean, unit variance."""
        return (mel - self.sizes.mel_mean) / self.sizes.mel_std

    def denormalise(self, mel: torch.Tensor) -> torch.Tensor:
        """Zero mean, unit variance -> natural-log mel."""
        return mel * self.sizes.mel_std + self.sizes.mel_mean

    def encode(self, mel: torch.Tensor, mel_lens: torch.Tensor) -> Tokens:
        """Natural-log mel (B, F, M) -> tokens and q (B, T, Q)."""
        return self.tokenizer(self.normalise(mel), mel_lens)

    def voice(self, mel: torch.Tensor, lens: torch.Tensor) -> torch.Tensor:
        """Natural-log mel (B, F, M) of any speech of a speaker -> voice (B, X)."""
        return self.speaker(self.normalise(mel), lens)

    def place(self, q: torch.Tensor, lens: torch.Tensor, text: torch.Tensor,
              text_lens: torch.Tensor) -> torch.Tensor | None:
        """(B, T) where in its text each token is, as the RM hears it, for an LM that reads
        aligned; None for one that does not."""
        return self.rm.align(q, lens, text, text_lens) if self.lm.aligned else None

    def style(self, emotion: torch.Tensor) -> torch.Tensor | None:
        """(B,) emotion labels, -1 for none -> (B,) style ids of LM and FM, 0 for none, in training
        with some hidden; None for a system without styles."""
        if self.config.style is None:
            return None
        if self.training:
            hidden = torch.rand(len(emotion), device=emotion.device) < self.config.style.drop
            emotion = emotion.masked_fill(hidden, -1)
        return emotion + 1

    def train_only(self, parts: list[str]) -> None:
        """Make ``parts`` trainable and freeze the others (no gradient, evaluation mode).

        Raises ValueError for a part that does not exist."""
        unknown = sorted(set(parts) - set(PARTS))
        if unknown:
            raise ValueError(f"no such part: {', '.join(unknown)}; parts: {', '.join(PARTS)}")
        for name in PARTS:
            getattr(self, name).requires_grad_(name in parts)
        self.trainable = tuple(parts)
        self.train(self.training)

    def train(self, mode: bool = True) -> "System":
        """Training mode for trainable parts only: a frozen part keeps its statistics."""
        super().train(mode)
        for name in PARTS:
            if name not in self.trainable:
                getattr(self, name).eval()
        return self
