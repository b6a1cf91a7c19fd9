"""The bundle: tokenizer, LM, FM, RM and speaker encoder around the token embeddings q.

Legend: B batch, F mel frames, M mel bands, T tokens, Q size of q, X size of a speaker embedding.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from e2etts.nets.fm import FM, FMConfig
from e2etts.nets.lm import LM, LMCondition, LMConfig
from e2etts.nets.options import training_option
from e2etts.nets.reward import RM, RMConfig
from e2etts.nets.speaker import SpeakerConfig, SpeakerEncoder
from e2etts.nets.tokenizer import Tokens
from e2etts.nets.tokenizers import CONFIGS, TokenizerConfig


@dataclass(frozen=True, kw_only=True)
class StyleConfig:
    """The emotion label of an utterance as a condition of the LM, and of the FM with ``fm``.
    dropout: share of training rows whose label is hidden, so that synthesis without a style is
    learned from them as well as from rows without a label."""

    dropout: float = training_option(0.1)
    fm: bool = True

    def __post_init__(self):
        if not 0 <= self.dropout <= 1:
            raise ValueError("dropout must be between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class SystemConfig:
    """One section per model. style: None for a system without style control."""

    tokenizer: TokenizerConfig = field(default_factory=CONFIGS[0])
    lm: LMConfig = field(default_factory=LMConfig)
    fm: FMConfig = field(default_factory=FMConfig)
    rm: RMConfig = field(default_factory=RMConfig)
    speaker: SpeakerConfig = field(default_factory=SpeakerConfig)
    style: StyleConfig | None = None


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the data decide: counts of text tokens and labels, the scale of log-mel, how many speech
    tokens a text token has (low, high; see ``Vocab``), None where that is not known, and the text
    stride of the LM where that is "auto"."""

    mel_bands: int
    frames_per_token: int
    text_vocab: int
    languages: int
    speakers: int
    emotions: int
    mel_mean: float
    mel_std: float
    tokens_per_text_token: list[float] | None = None
    text_stride: float | None = None


PARTS = ("tokenizer", "speaker", "lm", "fm", "rm")


class System(nn.Module):
    """Everything between text and mel. Mels outside are natural-log; inside they are normalised
    to zero mean and unit variance.

    trainable: parts that learn, see ``train_only``.
    """

    trainable: tuple[str, ...] = PARTS

    def __init__(self, config: SystemConfig, sizes: Sizes):
        """Raises ValueError for a style condition without labels to learn it from, and for a
        text_stride from data that do not tell."""
        super().__init__()
        if config.style and not sizes.emotions:
            raise ValueError("model.style: the training data have no emotion labels (utt2emo)")
        styles = sizes.emotions + 1 if config.style else 0
        lm = config.lm
        if lm.text_stride == "auto":
            if sizes.text_stride is None:
                raise ValueError("model.lm.text_stride: vocab.json is older than 'auto': prepare "
                                 "again (--stage 2), or give the number of speech tokens per text "
                                 "token")
            lm = replace(lm, text_stride=sizes.text_stride)
        self.config, self.sizes = config, sizes
        shared = {"q_dim": config.tokenizer.q_dim, "speaker_dim": config.speaker.embedding_dim}
        self.tokenizer = config.tokenizer.build(mel_bands=sizes.mel_bands,
                                                frames_per_token=sizes.frames_per_token)
        # Two tokens hold at most so many labels of the RM, by which text positions are found.
        self.lm = LM(lm, text_vocab=sizes.text_vocab, languages=sizes.languages,
                     codes=self.tokenizer.codebook_size, digits=self.tokenizer.digits(),
                     advances=2 * config.rm.labels_per_token + 1, styles=styles, **shared)
        self.fm = FM(config.fm, mel_bands=sizes.mel_bands, frames_per_token=sizes.frames_per_token,
                     styles=styles if config.style and config.style.fm else 0, **shared)
        self.rm = RM(config.rm, q_dim=config.tokenizer.q_dim, text_vocab=sizes.text_vocab,
                     speakers=sizes.speakers, emotions=sizes.emotions,
                     speaker_dim=config.speaker.embedding_dim)
        self.speaker = SpeakerEncoder(config.speaker, mel_bands=sizes.mel_bands)

    def normalise(self, mel: torch.Tensor) -> torch.Tensor:
        """Natural-log mel -> zero mean, unit variance."""
        return (mel - self.sizes.mel_mean) / self.sizes.mel_std

    def denormalise(self, mel: torch.Tensor) -> torch.Tensor:
        """Zero mean, unit variance -> natural-log mel."""
        return mel * self.sizes.mel_std + self.sizes.mel_mean

    def encode(self, mel: torch.Tensor | None, mel_lens: torch.Tensor,
               codes: torch.Tensor | None = None) -> Tokens:
        """Natural-log mel (B, F, M) -> tokens; where these come from files, they are ``codes``
        (B, T), and mel is not read."""
        if codes is not None:
            return self.tokenizer.known(codes, mel_lens // self.sizes.frames_per_token)
        return self.tokenizer(self.normalise(mel), mel_lens)

    def speaker_embedding(self, mel: torch.Tensor, lens: torch.Tensor) -> torch.Tensor:
        """Natural-log mel (B, F, M) of any speech of a speaker -> (B, X)."""
        return self.speaker(self.normalise(mel), lens)

    def text_positions(self, q: torch.Tensor, lens: torch.Tensor, text: torch.Tensor,
                       text_lens: torch.Tensor, known: torch.Tensor | None = None,
                       guided: bool = False) -> torch.Tensor | None:
        """(B, T) position of each token in its text, by the RM's CTC alignment, for an LM with
        aligned text_input, or whose attention is ``guided``; None for others. known: these
        positions, where they come from files."""
        if known is not None or not (self.lm.aligned or guided):
            return known
        return self.rm.align(q, lens, text, text_lens)

    def style_ids(self, emotion: torch.Tensor) -> torch.Tensor | None:
        """(B,) emotion labels, -1 for none -> (B,) style ids of LM and FM, 0 for none, in training
        with some hidden; None for a system without styles."""
        if self.config.style is None:
            return None
        if self.training:
            hidden = torch.rand(len(emotion), device=emotion.device) < self.config.style.dropout
            emotion = emotion.masked_fill(hidden, -1)
        return emotion + 1

    def lm_condition(self, batch: Any, speaker: torch.Tensor) -> LMCondition:
        """The condition of a batch's utterances: fields of ``LMCondition`` that the batch has, the
        speaker embedding (B, X), and the style."""
        of_batch = {name: getattr(batch, name) for name in LMCondition._fields
                    if name not in ("speaker", "style")}
        return LMCondition(**of_batch, speaker=speaker, style=self.style_ids(batch.emotion))

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
