"""The LM's own token rows for the texts of a batch: decoded, filtered, rewarded.

Legend: B batch, R roll-outs, N texts that are rolled out, K roll-outs of each, T tokens, Q size of
q.
"""

import contextlib
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import torch

from e2etts.infer.log_prob import Choices, log_probs
from e2etts.infer.sampling import Rollout, roll_out
from e2etts.nets.lm import LM, LMCondition, LMOutput
from e2etts.nets.packed import PackedLM
from e2etts.nets.sequence import length_mask
from e2etts.nets.system import System
from e2etts.synthesis_config import SamplingConfig

MAX_PERIOD = 8  # tokens, of what counts as a repetition


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """Weights of the RM's losses of a roll-out: its reward is minus their weighted sum. ctc and
    attention are in nats per text token. failure: how much less than the least reward of its group
    a roll-out is worth that is discarded, by which it teaches not to be like it."""

    ctc: float = 1.0
    attention: float = 0.0
    speaker: float = 0.0
    emotion: float = 0.0
    failure: float = 1.0

    def __post_init__(self):
        if min(self.weights.values(), default=0.0) <= 0:
            raise ValueError("reward: weights must not be negative, and one more than 0")
        if self.failure <= 0:
            raise ValueError("reward.failure must be more than 0")

    @property
    def weights(self) -> dict[str, float]:
        """Loss -> weight, of those that count."""
        return {name: weight for name, weight in asdict(self).items()
                if weight and name != "failure"}


@dataclass(frozen=True, kw_only=True)
class RolloutOptions:
    """How the LM's own token rows (roll-outs) are made and rewarded.

    group: roll-outs of each text. rollout_rows: share of a batch's rows whose texts are rolled out,
    at least one, drawn anew in every step; with 1 / group they have about as many tokens as the
    batch. sampling: how they are decoded, without gradient. packed: by ``nets.packed``, in half
    precision: faster on CPU. longest_repeat: in training, roll-outs are
    discarded that do not end, or that repeat for more tokens than this what is up to MAX_PERIOD
    tokens before: what the RM says of these was harmful (arXiv 2509.18569).
    """

    group: int = 4
    rollout_rows: float = 1.0
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    packed: bool = True
    longest_repeat: int = 25
    reward: RewardConfig = field(default_factory=RewardConfig)

    def __post_init__(self):
        if self.group is not None and self.group < 1:
            raise ValueError("group must be at least 1")
        if not 0 < self.rollout_rows <= 1:
            raise ValueError("rollout_rows must be more than 0 and at most 1")


class History(NamedTuple):
    """Token rows that the LM continues at every position: q (B, T, Q), index (B, T), lens (B,),
    text position (B, T) or None; their condition; speaker and emotion (B,) labels for the RM;
    ended (B,) of roll-outs, None of recordings."""

    q: torch.Tensor
    index: torch.Tensor
    lens: torch.Tensor
    position: torch.Tensor | None
    given: LMCondition
    speaker: torch.Tensor
    emotion: torch.Tensor
    ended: torch.Tensor | None = None

    def select(self, rows: torch.Tensor) -> "History":
        return History(*(x if x is None else x.select(rows) if isinstance(x, LMCondition)
                         else x[rows] for x in self))

    def predicted_by(self, lm: LM) -> LMOutput:
        """The prediction of ``lm`` at every position."""
        return lm(self.given, lm.reads(self.q, self.index), self.lens, self.position)

    def log_probs(self, out: LMOutput, sampling: SamplingConfig) -> Choices:
        """Of the choices of roll-outs, by what an LM predicts for them."""
        made = Rollout(self.index, self.lens, self.ended, self.position)
        return log_probs(out, made, self.given.text_lens, sampling)


class Rollouts(NamedTuple):
    """history: of R = N * K, those of one text side by side. kept: (R,) bool, False for one that is
    discarded. rewards: (N, K), -inf where the RM's CTC cannot judge, or a whole group is discarded.
    metrics: to log, those of rewards of what is kept."""

    history: History
    kept: torch.Tensor
    rewards: torch.Tensor
    metrics: dict[str, torch.Tensor]


@torch.no_grad()
def roll_outs(system: System, recorded: History, options: RolloutOptions, group: int,
              filtered: bool) -> Rollouts:
    """``group`` of the LM's own token rows for texts of ``recorded``; with ``filtered``, those are
    discarded that repeat or do not end."""
    if options.rollout_rows < 1:
        texts = len(recorded.lens)
        chosen = torch.randperm(texts)[: max(1, round(options.rollout_rows * texts))]
        recorded = recorded.select(chosen.to(recorded.lens.device))
    made = _decode(system, recorded.given, options, group)
    of_text = torch.arange(len(recorded.lens), device=made.lens.device).repeat_interleave(group)
    history = recorded.select(of_text)._replace(
        q=system.tokenizer.embed(made.index), index=made.index, lens=made.lens,
        position=made.position, ended=made.ended)
    kept = torch.ones_like(made.ended)
    if filtered:
        repeats = longest_repeat(made.index, made.lens) > options.longest_repeat
        kept = made.ended & ~repeats
    rewards = _rewards(system, history, options.reward).masked_fill(~kept, -torch.inf)
    rewards = rewards.view(-1, group)
    length_ratio = made.lens.sum() / recorded.lens[of_text].sum()
    metrics = {"rollouts_kept": kept.float().mean(), "rollout_length_ratio": length_ratio,
               **_reward_metrics(rewards)}
    least = rewards.masked_fill(~rewards.isfinite(), torch.inf).amin(1, keepdim=True)
    failed = ~kept.view_as(rewards) & least.isfinite()
    return Rollouts(history, kept, torch.where(failed, least - options.reward.failure, rewards),
                    metrics)


def _decode(system: System, given: LMCondition, options: RolloutOptions, group: int) -> Rollout:
    if not options.packed:
        return roll_out(system, given, options.sampling, candidates=group)
    precision, device = contextlib.nullcontext(), given.text.device.type
    if torch.is_autocast_enabled(device):  # the packed LM brings its own precision
        precision = torch.autocast(device, enabled=False)
    given = given._replace(speaker=given.speaker.float())
    with precision:
        return roll_out(system, given, options.sampling, candidates=group,
                        packed=PackedLM(system.lm))


def _rewards(system: System, history: History, config: RewardConfig) -> torch.Tensor:
    given = history.given
    losses = system.rm.row_losses(history.q, history.lens, given.text, given.text_lens,
                                  history.speaker, history.emotion, given.speaker)
    return -sum(weight * losses[name].float() for name, weight in config.weights.items())


def _reward_metrics(rewards: torch.Tensor) -> dict[str, torch.Tensor]:
    """reward: mean of all; reward_spread: mean standard deviation within a group. Left out where
    there are none."""
    judged = rewards.isfinite()
    out = {"reward": rewards[judged].mean()} if bool(judged.any()) else {}
    spreads = [row[seen].std() for row, seen in zip(rewards, judged, strict=True)
               if int(seen.sum()) > 1]
    return out | ({"reward_spread": torch.stack(spreads).mean()} if spreads else {})


def longest_repeat(index: torch.Tensor, lens: torch.Tensor) -> torch.Tensor:
    """(B,) for how many tokens in a row each of (B, T) only repeats those of 1 to MAX_PERIOD
    before."""
    longest = torch.zeros_like(lens)
    inside = length_mask(lens, index.shape[1])
    for period in range(1, min(MAX_PERIOD, index.shape[1] - 1) + 1):
        same = (index[:, period:] == index[:, :-period]) & inside[:, period:]
        count = same.cumsum(1)
        run = count - count.masked_fill(same, 0).cummax(1).values
        longest = longest.maximum(run.amax(1))
    return longest
