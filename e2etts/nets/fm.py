"""Token-to-mel decoder: a flow over mel patches, conditioned on q, speaker and a mel prompt.

Legend: B batch, T tokens, F mel frames, M mel bands, P frames a patch, N = F / P patches,
Q size of q, X size of a speaker embedding.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from e2etts.nets.estimator import Condition, Estimator
from e2etts.nets.flow import FlowConfig, SolverConfig, flow_loss, flow_sample
from e2etts.nets.options import training_option
from e2etts.nets.sequence import length_mask, masked_mean
from e2etts.nets.tokenizer import stack_frames
from e2etts.nets.transformer import Transformer, TransformerConfig


@dataclass(frozen=True, kw_only=True)
class FMConfig:
    """patch_frames: mel frames per position of the estimator (frames_per_token: one position per
    token). encoder_layers: layers that read q before the flow. coarse: they also predict the mel by
    regression, on which the flow is conditioned; on little data this learns about three times as
    fast. prompt_share: share of training samples that see the start of the target as a prompt, of
    at most the share prompt_max of its frames."""

    trunk: TransformerConfig = field(default_factory=TransformerConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    encoder_layers: int = 2
    coarse: bool = True
    patch_frames: int = 2
    prompt_share: float = training_option(0.5)
    prompt_max: float = training_option(0.3)


class FM(nn.Module):
    """p(mel | q, speaker, prompt) by conditional flow matching (arXiv 2412.10117, section 2.3)."""

    def __init__(
        self, config: FMConfig, *, q_dim: int, speaker_dim: int, mel_bands: int,
        frames_per_token: int, styles: int = 0,
    ):
        """styles: number of style ids, "none" (0) included; 0 for an FM without style condition."""
        super().__init__()
        if frames_per_token % config.patch_frames:
            raise ValueError("frames_per_token must be a multiple of patch_frames")
        self.config = config
        self.patches_per_token = frames_per_token // config.patch_frames
        dim, patch = config.trunk.dim, config.patch_frames * mel_bands
        self.patch = patch
        self.stem = nn.Linear(q_dim, dim)
        self.prompt = nn.Linear(patch + 1, dim)
        self.speaker = nn.Linear(speaker_dim, dim)
        self.encoder = Transformer(replace(config.trunk, layers=config.encoder_layers),
                                   causal=False)
        self.coarse = nn.Linear(dim, patch) if config.coarse else None
        self.estimator = Estimator(
            config.trunk, channels=patch, speaker_dim=speaker_dim,
            condition=dim + patch * (2 if config.coarse else 1))
        # A style is added to the speaker embedding, and begins at zero.
        self.style = nn.Embedding(styles, speaker_dim) if styles else None
        if self.style is not None:
            nn.init.zeros_(self.style.weight)

    def _in_style(self, speaker, style):
        if self.style is None:
            return speaker
        return speaker + self.style(speaker.new_zeros(len(speaker), dtype=torch.long)
                                    if style is None else style).to(speaker.dtype)

    def _encode(self, q, speaker, prompt, prompt_mask, lens):
        """Condition of the estimator (B, N, ...) and the coarse mel (B, N, P * M) or None."""
        h = self.stem(q).repeat_interleave(self.patches_per_token, dim=1)
        seen = torch.cat([prompt, prompt_mask.unsqueeze(-1).to(prompt.dtype)], dim=-1)
        h = h + self.prompt(seen) + self.speaker(speaker).unsqueeze(1)
        h = self.encoder(h, lens=lens)
        if self.coarse is None:
            return Condition(torch.cat([h, prompt.to(h.dtype)], dim=-1), speaker), None
        coarse = self.coarse(h)
        # Detached: the flow's loss must not make the coarse mel a worse mel.
        given = torch.cat([h, prompt.to(h.dtype), coarse.detach().to(h.dtype)], dim=-1)
        return Condition(given, speaker), coarse

    def losses(
        self, q: torch.Tensor, mel: torch.Tensor, mel_lens: torch.Tensor, speaker: torch.Tensor,
        style: torch.Tensor | None = None, *, wanted: Collection[str] = ("fm", "coarse"),
        flow_rows: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """{"fm": flow loss, "coarse": L1 of the coarse mel} of mel (B, F, M), normalised, given
        q (B, T, Q), speaker (B, X) and style (B,) ids, 0 or None for none. What is not wanted is
        not run: the flow is more than half of this net. flow_rows: (R,) rows of which the flow loss
        is the mean (default: all)."""
        speaker = self._in_style(speaker, style)
        target = stack_frames(mel, self.config.patch_frames)
        lens = mel_lens // self.config.patch_frames
        share = torch.rand(len(mel), device=mel.device)
        prompted = torch.rand(len(mel), device=mel.device) < self.config.prompt_share
        prompt_lens = (lens * share * self.config.prompt_max * prompted).long()
        prompt_mask = length_mask(prompt_lens, target.shape[1])
        prompt = target * prompt_mask.unsqueeze(-1)
        condition, coarse = self._encode(q, speaker, prompt, prompt_mask, lens)
        losses = {}
        if "fm" in wanted:
            given, data, n, counts = condition, target, lens, ~prompt_mask
            if flow_rows is not None:
                given = condition.select(flow_rows)
                data, n, counts = (x[flow_rows] for x in (data, n, counts))
            keep = torch.rand(len(data), device=mel.device) >= self.config.flow.cfg_dropout
            losses["fm"] = flow_loss(self.estimator, self.config.flow, data, given.dropped(keep),
                                     n, counts)
        if coarse is not None and "coarse" in wanted:
            valid = length_mask(lens, target.shape[1]) & ~prompt_mask
            losses["coarse"] = masked_mean((coarse.float() - target).abs(), valid)
        return losses

    @torch.no_grad()
    def sample(
        self,
        q: torch.Tensor,
        lens: torch.Tensor,
        speaker: torch.Tensor,
        prompt_mel: torch.Tensor | None = None,
        *,
        style: torch.Tensor | None = None,
        solver: SolverConfig | None = None,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """q: (B, T, Q), lens: (B,) tokens, speaker: (B, X), prompt_mel: (B, F', M) the known mel of
        the first tokens, style: (B,) ids, 0 or None for none. Returns normalised mel (B, F, M),
        the prompt's frames included."""
        speaker = self._in_style(speaker, style)
        n = q.shape[1] * self.patches_per_token
        lens = lens * self.patches_per_token
        prompt = q.new_zeros(len(q), n, self.patch)
        mask = torch.zeros(len(q), n, dtype=torch.bool, device=q.device)
        if prompt_mel is not None:
            known = stack_frames(prompt_mel, self.config.patch_frames)
            prompt[:, : known.shape[1]] = known
            mask[:, : known.shape[1]] = True
        condition, coarse = self._encode(q, speaker, prompt, mask, lens)
        solver = solver or SolverConfig()
        if solver.steps == 0:
            if coarse is None:
                raise ValueError("0 solver steps mean the coarse mel, and this FM has none: set "
                                 "model.fm.coarse")
            x = coarse.float()
        else:
            if solver.cfg_scale:
                condition = condition.with_and_without()
            x = flow_sample(self.estimator, solver, (len(q), n, self.patch), condition, lens,
                            generator, (prompt, mask) if prompt_mel is not None else None,
                            None if coarse is None else coarse.float(), self.config.flow.sigma)
        return x.reshape(len(q), n * self.config.patch_frames, -1)
