"""Vocoder stage: random crops of recordings, spectral losses, optional adversary.

Legend: C crops, T mel frames, M mel bands.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e2etts.audio import LOG_FLOOR, AudioConfig, log_mel
from e2etts.data.batch import Batch
from e2etts.errors import UserError
from e2etts.nets.discriminator import (
    DiscriminatorConfig,
    SpectrogramDiscriminator,
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
)
from e2etts.nets.source import track_pitch
from e2etts.nets.spectral import mel_loss, phase_loss, stft_loss, waveform_loss
from e2etts.nets.vocoder import Vocoder, VocoderOutput
from e2etts.train.task import EVALUATION, Losses, StepInfo, Task


@dataclass(frozen=True, kw_only=True)
class VocoderOptions:
    """What a step looks at; how much each loss weighs is in the stage's ``weights``.

    crop_frames: mel frames of a training example, from a random place of an utterance.
    crops: examples a step; None takes one of each utterance, a number draws them by length.
    phase_terms: also compare phases and samples with the recording (only for the "phase"
        spectrum: a pulse train of its own has no reason to be in phase with the recording).
    adversarial_from: training progress, 0 to 1, at which the discriminator enters.
    """

    crop_frames: int = 50
    crops: int | None = None
    fft_samples: tuple[int, ...] = (256, 512, 1024, 2048)
    mel_resolutions: tuple[tuple[int, int], ...] = ((512, 40), (1024, 80))
    phase_terms: bool = False
    adversarial: bool = False
    adversarial_from: float = 0.5
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)


class VocoderTask(Task):
    """Recordings -> vocoder.

    Terms of phase "generator": convergence, magnitude, mel; pitch and voicing with the
    "harmonic" spectrum; phase, group_delay, frequency, waveform with phase_terms; adversarial and
    features once the adversary is on. Phase "discriminator": discriminator.
    Metrics: mel_error (natural-log units, the vocoder's own mel), pitch_cents (median error on
    voiced frames), voicing_error (fraction of frames).
    """

    selection = ("convergence", "magnitude", "mel")
    needs_wav = True
    Options = VocoderOptions

    def __init__(self, vocoder: Vocoder, audio: AudioConfig, options: VocoderOptions):
        super().__init__()
        self.vocoder, self.audio, self.options = vocoder, audio, options
        self.phases = ("generator", "discriminator") if options.adversarial else ("generator",)
        self.discriminator = None
        if options.adversarial:
            self.discriminator = SpectrogramDiscriminator(options.discriminator)

    def forward(self, batch: Batch, phase: str = "generator",
                info: StepInfo = EVALUATION) -> Losses:
        """Losses on crops; in evaluation on the middle of every utterance, adversary left out.

        Raises UserError for a batch without recordings.
        """
        if batch.wav is None:
            raise UserError("vocoder: the batch has no recordings: this stage needs wav.scp")
        if phase == "discriminator":
            return self._discriminate(batch, info)
        mel, wav = self._crop(batch)
        out, pitch_hz = self._render(mel, wav)
        terms = self._spectral(out, wav)
        metrics = {"mel_error": self._mel_error(out.wav, mel)}
        if pitch_hz is not None:
            more, seen = self._pitch(out, pitch_hz)
            terms |= more
            metrics |= seen
        if self._adversary_is_on(info):
            with _frozen(self.discriminator):
                fake, real = self.discriminator(out.wav), self.discriminator(wav)
            terms["adversarial"] = adversarial_loss(fake)
            terms["features"] = feature_matching_loss(real, fake)
        return Losses(terms, metrics)

    def parameters_of(self, phase: str) -> list[nn.Parameter]:
        """The vocoder's, or the discriminator's."""
        part = self.discriminator if phase == "discriminator" else self.vocoder
        return [p for p in part.parameters() if p.requires_grad]

    def state_to_save(self) -> dict[str, Tensor]:
        """The vocoder alone, keys as in ``Vocoder.state_dict()``."""
        return dict(self.vocoder.state_dict())

    def _adversary_is_on(self, info: StepInfo) -> bool:
        c = self.options
        return c.adversarial and self.training and info.progress >= c.adversarial_from

    def _discriminate(self, batch: Batch, info: StepInfo) -> Losses:
        if not self._adversary_is_on(info):
            return Losses()
        mel, wav = self._crop(batch)
        with torch.no_grad():
            fake = self._render(mel, wav)[0].wav
        return Losses({"discriminator": discriminator_loss(
            self.discriminator(wav), self.discriminator(fake))})

    def _crop(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(C, T, M) mel and (C, T * hop) samples; one shorter than T is padded with silence."""
        frames, hop, crops = self.options.crop_frames, self.audio.hop_samples, self.options.crops
        lens = batch.mel_lens
        row = torch.arange(len(lens), device=lens.device)
        if self.training and crops is not None:
            row = torch.multinomial(lens.float(), crops, replacement=True)
        spare = (lens[row] - frames).clamp_min(0)
        start = spare // 2
        if self.training:
            start = (torch.rand(len(row), device=lens.device) * (spare + 1)).long()
        at = start[:, None] + torch.arange(frames, device=lens.device)
        inside = at < lens[row, None]
        at = at.clamp_max(batch.mel.shape[1] - 1)
        mel = torch.where(inside.unsqueeze(-1), batch.mel[row[:, None], at], math.log(LOG_FLOOR))
        blocks = batch.wav[:, : batch.mel.shape[1] * hop].unflatten(1, (-1, hop))
        wav = torch.where(inside.unsqueeze(-1), blocks[row[:, None], at], 0.0)
        return mel, wav.flatten(1)

    def _render(self, mel: Tensor, wav: Tensor) -> tuple[VocoderOutput, Tensor | None]:
        """The vocoder's output, and the true pitch where it learns one.

        In training the pulse train follows the true pitch, so that the filters learn from
        harmonics that are in place; in evaluation it is the predicted one, as in use.
        """
        if not self.vocoder.harmonic:
            return self.vocoder(mel), None
        pitch_hz = track_pitch(wav, self.audio.sample_rate_hz, self.vocoder.fine_hop_samples)
        return self.vocoder(mel, pitch_hz=pitch_hz if self.training else None), pitch_hz

    def _spectral(self, out: VocoderOutput, wav: Tensor) -> dict[str, Tensor]:
        convergence, magnitude = stft_loss(out.wav, wav, self.options.fft_samples)
        terms = {"convergence": convergence, "magnitude": magnitude,
                 "mel": mel_loss(out.wav, wav, self.audio.sample_rate_hz,
                                 self.options.mel_resolutions)}
        if self.options.phase_terms:
            terms |= phase_loss(out.wav, wav)
            terms["waveform"] = waveform_loss(out.wav, wav)
        return terms

    def _pitch(self, out: VocoderOutput, pitch_hz: Tensor) -> tuple[dict, dict]:
        voiced = pitch_hz > 0
        scale = self.vocoder.pitch_scale
        logits = out.pitch_logits.float()
        surprise = -(scale.targets(pitch_hz) * logits.log_softmax(-1)).sum(-1)
        terms = {
            "pitch": (surprise * voiced).sum() / voiced.sum().clamp_min(1),
            "voicing": F.binary_cross_entropy_with_logits(
                out.voicing_logits.float(), voiced.float()),
        }
        with torch.no_grad():
            cents = 1200 * torch.log2(scale.decode(logits) / pitch_hz.clamp_min(1.0))
            cents = cents.abs()[voiced]
            metrics = {
                "pitch_cents": cents.median() if len(cents) else cents.new_zeros(()),
                "voicing_error": ((out.voicing_logits > 0) != voiced).float().mean(),
            }
        return terms, metrics

    @torch.no_grad()
    def _mel_error(self, fake: Tensor, mel: Tensor) -> Tensor:
        with torch.autocast(fake.device.type, enabled=False):
            return (log_mel(fake, self.audio) - mel).abs().mean()


@contextlib.contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Inside the block gradient flows through the module but not into its parameters."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
