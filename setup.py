"""Installs the package and the command ``e2etts``; see tools/install.sh for a whole environment."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent

# What commands load and the data of egs/mini need; some judges, peers and formats are extras.
install_requires = [
    "accelerate>=1.0",
    "av>=12",  # decodes the recordings of egs/mini, which are G.722
    "huggingface_hub>=0.24",
    "jiwer>=3.0",
    "kaldiio>=2.18",
    "matplotlib>=3.7",
    "num2words>=0.5.13",
    "numpy>=1.26",
    "pydantic>=2",
    "pypinyin>=0.50",
    "pyyaml>=6",
    "safetensors>=0.4",
    "sentencepiece>=0.2",
    "soundfile>=0.12",
    "soxr>=0.3",
    "tensorboard>=2.14",
    "tokenizers>=0.19",
    # torch.optim.Muon came with torch 2.9. torchaudio 2.11, the newest, is built for CUDA 13.0 and
    # refuses torch 2.15 (CUDA 13.2); the CPU-only wheel of torch 2.13.0 lacks a symbol without
    # which torchaudio does not load.
    "torch>=2.9,<2.15,!=2.13.0",
    "torchaudio>=2.9",
    "tqdm>=4.60",
    "wetext>=0.1.2",
]

extras_require = {
    # What e2etts bench compares with; each is optional there.
    "bench": ["f5-tts>=1.1", "librosa>=0.10", "transformers>=4.51", "vocos>=0.1"],
    "data": ["pyarrow>=14"],  # utils/from_csv.py reads parquet and arrow with it
    "dev": ["playwright>=1.40", "pyarrow>=14", "pytest>=8", "ruff>=0.6", "transformers>=5"],
    "emotion": ["transformers>=4.51"],  # e2etts label-emotions
    # Judges beyond those of the mini recipe. pyworld-prebuilt is pyworld with wheels.
    "metrics": [
        "pyworld-prebuilt>=0.3.5",
        "speechbrain>=1.0",
        "transformers>=4.51",
        "zhconv>=1.4",
        "zhon>=2.0",
    ],
    # resemblyzer belongs here too, but asks for webrtcvad, which has no wheels and needs a C
    # compiler: tools/install.sh installs it without its dependencies, beside webrtcvad-wheels.
    "score": [
        "faster-whisper>=1.1",
        "librosa>=0.10",
        "onnxruntime>=1.16",
        "pocketsphinx>=5.0.4",
        "scikit-learn>=1.3",
        "scipy>=1.11",
        "speechmos>=0.0.1.1",
        "webrtcvad-wheels>=2.0.14",
        "whisper-normalizer>=0.1.12",
    ],
    # model.tokenizer.encoder: layers before version 5 are called in another way.
    "whisper": ["transformers>=5"],
}


def version() -> str:
    """The version written in e2etts/__init__.py, read without importing it."""
    text = (ROOT / "e2etts" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'__version__ = "([^"]+)"', text).group(1)


setup(
    name="e2etts",
    version=version(),
    description="End-to-end training of a discrete-token text-to-speech system",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["e2etts", "e2etts.*"]),
    package_data={"e2etts.score": ["report.html"]},
    install_requires=install_requires,
    extras_require=extras_require,
    entry_points={"console_scripts": ["e2etts = e2etts.bin.main:main"]},
)
