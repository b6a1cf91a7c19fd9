"""Paraformer recognises Mandarin (arXiv 2206.08317), through FunASR."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from e2etts.score.config import ScoreConfig
from e2etts.score.judges.locate import Unavailable, offline, require, stamp
from e2etts.score.meter import Measure, Meter, WavJob, each

MODEL = "paraformer-zh"
REMEDY = (f"let FunASR fetch it where there is a network, then pass the folder that it fetched "
          f"(below ~/.cache/modelscope): score.models.{MODEL}=FOLDER")
BATCH_SECONDS = 300  # seed-tts-eval's batch_size_s; one clip at a time never fills it


@dataclass(frozen=True)
class ParaformerMeter(Meter):
    """Recognition by Paraformer, without voice activity or punctuation models.

    model: name that FunASR knows, or a folder.
    """

    model: str = MODEL
    name: str = "wer"
    remedy = REMEDY

    def describe(self) -> dict[str, str]:
        return {"name": f"FunASR {Path(self.model).name}", "source": self.model,
                "version": f"funasr {version('funasr')}"}

    def understands(self, lang: str) -> bool:
        return lang == "zh"

    def is_published(self) -> bool:
        """Whether this is FunASR's paraformer-zh, as far as a folder shows."""
        return self.model == MODEL or Path(self.model).is_dir()

    def key(self, lang: str) -> str:
        return f"funasr {stamp(self.model)} {version('funasr')}"

    def load(self, job: WavJob) -> str:
        return str(job.path)  # FunASR reads and resamples files itself

    def open(self, device: str) -> Measure:
        from funasr import AutoModel

        model = AutoModel(model=self.model, device=device, disable_update=True,
                          disable_pbar=True, log_level="ERROR")

        def measure(path: str, lang: str) -> str:
            return model.generate(input=path, batch_size_s=BATCH_SECONDS)[0]["text"]

        return each(measure)


def find(config: ScoreConfig, named: str = "") -> ParaformerMeter:
    """The model ``named``, else that of ``score.models.paraformer-zh``, else by FunASR's own name,
    which FunASR looks up in its hub even where it has fetched it before. Raises Unavailable."""
    require(("funasr",), "pip install funasr")
    model = named or config.models.get(MODEL) or MODEL
    if offline() and not Path(model).is_dir():
        raise Unavailable(f"{model} is not a folder, and the hub is switched off (HF_HUB_OFFLINE)",
                          REMEDY)
    return ParaformerMeter(model)
