"""Speaker embeddings of SpeechBrain's ECAPA-TDNN (arXiv 2005.07143, VoxCeleb)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from e2etts.score.config import ScoreConfig
from e2etts.score.judges.locate import fetch_file, locate_hub, require
from e2etts.score.meter import CheckpointMeter, Measure, each, pack

REPOSITORY = "speechbrain/spkrec-ecapa-voxceleb"
WEIGHTS = "embedding_model.ckpt"
MELS = 80


@dataclass(frozen=True)
class EcapaMeter(CheckpointMeter):
    """Unit speaker embedding of a wav, packed. Sizes not given by the weights are those of the
    published hyperparams.yaml, which SpeechBrain's own loader would execute."""

    name: str = "sim"
    kind, title = "ecapa", "SpeechBrain ECAPA-TDNN"

    def open(self, device: str) -> Measure:
        import torch
        from speechbrain.lobes.features import Fbank
        from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

        stored = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        channels = len(stored["blocks.0.conv.conv.bias"])
        net = ECAPA_TDNN(
            MELS, channels=[*[channels] * 4, 3 * channels], kernel_sizes=[5, 3, 3, 3, 1],
            dilations=[1, 2, 3, 4, 1], attention_channels=len(stored["asp.tdnn.conv.conv.bias"]),
            lin_neurons=len(stored["fc.conv.bias"]))
        net.load_state_dict(stored)
        net, mels = net.to(device).eval(), Fbank(n_mels=MELS).to(device)

        @torch.no_grad()
        def measure(wav: np.ndarray, lang: str) -> str:
            x = mels(torch.from_numpy(wav)[None].float().to(device))
            vector = net(x - x.mean(1, keepdim=True))[0, 0]
            return pack(torch.nn.functional.normalize(vector, dim=0).cpu().numpy())

        return each(measure)


def find(config: ScoreConfig) -> EcapaMeter:
    """The weights in the folder of ``score.models.ecapa``, else from the hub. Raises Unavailable.
    """
    require(["speechbrain", "huggingface_hub"])
    found, local = locate_hub("score.models.ecapa", REPOSITORY, config.models.get("ecapa"), WEIGHTS)
    path = Path(found) / WEIGHTS
    return EcapaMeter.of(path if path.is_file() else fetch_file(found, local, WEIGHTS))
