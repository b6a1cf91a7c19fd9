"""Speaker vectors of SpeechBrain's ECAPA-TDNN (arXiv 2005.07143, VoxCeleb)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from e2etts.score.config import ScoreConfig
from e2etts.score.measure import Measure, Meter, each
from e2etts.score.models import EXTRAS, HUB_REMEDY, locate_hub, require, stamp
from e2etts.score.vectors import pack

REPOSITORY = "speechbrain/spkrec-ecapa-voxceleb"
WEIGHTS = "embedding_model.ckpt"
MELS = 80


@dataclass(frozen=True)
class EcapaMeter(Meter):
    """Unit speaker vector of a wav, packed.

    model: folder or hub name. Only the weights are read: the sizes are those of the published
    hyperparams.yaml, which SpeechBrain's own loader would execute.
    """

    model: str
    local: bool
    name: str = "sim"
    remedy = HUB_REMEDY

    def describe(self) -> dict[str, str]:
        return {"name": "SpeechBrain ECAPA-TDNN", "source": self.model}

    def key(self, lang: str) -> str:
        return f"ecapa {stamp(self.model)}"

    def open(self, device: str) -> Measure:
        import torch
        from huggingface_hub import hf_hub_download
        from speechbrain.lobes.features import Fbank
        from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

        path = Path(self.model) / WEIGHTS
        if not path.is_file():
            path = hf_hub_download(self.model, WEIGHTS, local_files_only=self.local)
        stored = torch.load(path, map_location="cpu", weights_only=True)
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
    """The model of ``score.models.ecapa``, else from the hub. Raises Unavailable."""
    require(["speechbrain", "huggingface_hub"], EXTRAS)
    return EcapaMeter(*locate_hub("score.models.ecapa", REPOSITORY, config.models.get("ecapa"),
                                  WEIGHTS))
