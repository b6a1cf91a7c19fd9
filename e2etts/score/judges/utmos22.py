"""UTMOS: estimated naturalness, 1 to 5 (arXiv 2204.02152, the strong learner without phonemes).

Loads utmos22_strong_step7459_v1.pt, the checkpoint as converted by tarepan/SpeechMOS.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from e2etts.errors import UserError
from e2etts.score.config import ScoreConfig
from e2etts.score.judges.locate import locate_file
from e2etts.score.judges.ssl_encoders import BASE, SpeechEncoder, SSLConfig
from e2etts.score.meter import CheckpointMeter, Measure, each

KEY, FILE = "utmos", "utmos22_strong_step7459_v1.pt"
REMEDY = f"fetch {FILE} (release v1.0.0 of github.com/tarepan/SpeechMOS) into that folder"


class UTMOS(nn.Module):
    """Samples -> naturalness. domain, judge: embeddings of the listening test to predict;
    given: their size."""

    def __init__(self, config: SSLConfig = BASE, *, given: int = 128, hidden: int = 512,
                 wide: int = 2048):
        super().__init__()
        self.wav2vec2 = SpeechEncoder(config)
        self.domain_emb = nn.Parameter(torch.zeros(1, given))
        self.judge_emb = nn.Parameter(torch.zeros(1, given))
        self.blstm = nn.LSTM(config.dim + 2 * given, hidden, batch_first=True, bidirectional=True)
        self.projection = nn.Sequential(nn.Linear(2 * hidden, wide), nn.ReLU(), nn.Linear(wide, 1))

    def forward(self, wav: torch.Tensor) -> torch.Tensor:
        """(B, S) float samples at 16 kHz, all of one length -> (B,) from 1 to 5."""
        x = self.wav2vec2(wav)[-1]
        condition = torch.cat([self.domain_emb, self.judge_emb], 1)
        x = torch.cat([x, condition[:, None].expand(*x.shape[:2], -1)], 2)
        return self.projection(self.blstm(x)[0]).mean((1, 2)) * 2 + 3


def load(path: Path, config: SSLConfig = BASE, **sizes: int) -> UTMOS:
    """The net of a checkpoint. Raises UserError for a file of another form."""
    net = UTMOS(config, **sizes)
    try:
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as e:  # a file of another form can fail in many ways
        raise UserError(f"{path}: not the checkpoint {FILE}: "
                        f"{' '.join(str(e).split())[:200]}") from e
    return net.eval()


@dataclass(frozen=True)
class NaturalnessMeter(CheckpointMeter):
    """UTMOS of a whole wav."""

    name: str = "utmos"
    kind, title = KEY, "UTMOS22 strong"

    def open(self, device: str) -> Measure:
        net = load(Path(self.checkpoint)).to(device)

        @torch.no_grad()
        def measure(wav: np.ndarray, lang: str) -> float:
            return float(net(torch.from_numpy(wav)[None].float().to(device)))

        return each(measure)


def find(config: ScoreConfig) -> NaturalnessMeter:
    """The checkpoint of ``score.models.utmos``, else from a cache. Raises Unavailable."""
    hub = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    return NaturalnessMeter.of(locate_file(KEY, FILE, config.models.get(KEY), [hub], REMEDY))
