"""Sound samples and spectrograms of a scored run, for the front page.

Writes docs/samples/*.ogg (copy synthesis and text-to-speech of one test recording, text-to-speech
of sentences) and docs/figures/spectrograms.png (that recording above, its text-to-speech below).

example:
  python ../../utils/readme_samples.py exp/default --utt asterisk-en-vm-savefolder \\
    --sentences sentence-en-001 sentence-en-002
"""

import argparse
import io
import sys
from pathlib import Path

import numpy as np
import soundfile

from e2etts.cli import tool
from e2etts.errors import UserError
from e2etts.report.media import HOP_SECONDS, RANGE_DB, spectrogram_db
from e2etts.score.clips import Clip, read_clips

DOCS = Path(__file__).resolve().parents[1] / "docs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("exp", type=Path, help="folder of the run, exp/TAG")
    parser.add_argument("--utt", required=True, help="utterance of a test set")
    parser.add_argument("--sentences", nargs="+", default=[], metavar="UTT",
                        help="utterances of sets of sentences")
    parser.add_argument("--docs", type=Path, default=DOCS, metavar="DIR",
                        help="folder to write to (default: docs of this checkout)")


def run(args: argparse.Namespace) -> None:
    clips = {(clip.system, clip.utt): clip for clip in read_clips(args.exp / "wavs")}
    names = {("copy", args.utt): "copy_synthesis", ("tts", args.utt): "text_to_speech",
             **{("tts", u): f"sentence_{i}" for i, u in enumerate(args.sentences, start=1)}}
    for key in (*names, ("recording", args.utt)):
        if key not in clips:
            raise UserError(f"{args.exp}/wavs: no clip '{key[1]}' of {key[0]}: run stage 9, or "
                            "name another utterance")
    (args.docs / "samples").mkdir(parents=True, exist_ok=True)
    (args.docs / "figures").mkdir(parents=True, exist_ok=True)
    for key, name in names.items():
        path = args.docs / "samples" / f"{name}.ogg"
        soundfile.write(path, *soundfile.read(clips[key].wav), format="OGG", subtype="OPUS")
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB: {clips[key].text}")
    path = args.docs / "figures" / "spectrograms.png"
    draw([clips["recording", args.utt], clips["tts", args.utt]], path)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def draw(clips: list[Clip], path: Path) -> None:
    """Spectrograms below each other, on one time axis."""
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(8, 3.8), dpi=95, layout="constrained")
    axes = figure.subplots(len(clips), 1, sharex=True)
    for axis, clip, title in zip(axes, clips, ("recording", "text-to-speech"), strict=True):
        wav, rate_hz = soundfile.read(clip.wav)
        level: np.ndarray = spectrogram_db(wav, rate_hz)
        axis.imshow(level, origin="lower", aspect="auto", cmap="magma", vmin=-RANGE_DB,
                    extent=(0, level.shape[1] * HOP_SECONDS, 0, rate_hz / 2000))
        axis.set_ylabel("kHz")
        axis.set_title(f"{title}: {clip.text}", fontsize=10, loc="left")
    axes[-1].set_xlabel("seconds")
    axes[-1].set_xlim(0, None)
    buffer = io.BytesIO()
    figure.savefig(buffer)
    # 32 colours: a spectrogram in all colours is several times as large.
    Image.open(buffer).convert("RGB").quantize(32).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(tool(__file__, __doc__, add_arguments, run))
