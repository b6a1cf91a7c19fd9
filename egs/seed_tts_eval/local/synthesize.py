"""Zero-shot synthesis of each line of a list with its prompt; existing wavs are kept.

    python local/synthesize.py --system PACK --list en/meta.lst --lang en --out wavs/en

Writes OUT/UTT.wav, and the synthesis times to OUT.times.
"""

import argparse
import sys
import time
from pathlib import Path

from tqdm import tqdm

from e2etts.audio import load_wav_as, save_wav
from e2etts.bin.main import fail
from e2etts.config import build, merge, parse_overrides, read_yaml
from e2etts.data.datadir import read_table, write_table
from e2etts.errors import UserError
from e2etts.infer.config import SynthesisConfig
from e2etts.infer.pipeline import Synthesizer
from e2etts.score.lists import Line, read_list
from e2etts.score.reward_reader import FORM, TrainedSystem


def load(where: str, overrides: list[str]) -> Synthesizer:
    """Load the system with its packed settings. Raises UserError."""
    system = TrainedSystem.at(where)
    told = Path(system.dump) / "config.yaml"
    tree = read_yaml(told).get("synthesis", {}) if told.is_file() else {}
    tree = merge(tree, parse_overrides(overrides).get("synthesis", {}))
    return Synthesizer.load(system.checkpoint, system.vocoder, system.dump,
                            build(SynthesisConfig, tree, "synthesis"))


def speak(synthesizer: Synthesizer, line: Line, lang: str, path: Path, seed: int) -> float:
    """Write one wav; returns the synthesis time in seconds, including the prompt."""
    start = time.perf_counter()
    wav = load_wav_as(line.prompt, synthesizer.audio.sample_rate_hz)
    prompt = synthesizer.prompt(wav, line.prompt_text, lang)
    speech = synthesizer.speak([synthesizer.text_ids(line.text, lang)], [lang],
                               [synthesizer.voice([wav])], prompt=prompt, seed=seed)[0]
    spent = time.perf_counter() - start
    save_wav(path, speech.wav, synthesizer.audio.sample_rate_hz)
    return spent


def run(args: argparse.Namespace) -> None:
    lines = read_list(args.list)
    for line in lines:
        if not line.prompt or not line.prompt_text:
            raise UserError(f"{line.origin}: zero-shot synthesis needs a prompt and its text")
        if Path(line.utt).name != line.utt:
            raise UserError(f"{line.origin}: '{line.utt}' is no file name")
    synthesizer = load(args.system, args.overrides)
    times = args.out.with_name(f"{args.out.name}.times")
    spent = read_table(times) if times.is_file() else {}
    for line in tqdm(lines, desc=f"synthesize {args.out.name}", unit="clip"):
        path = args.out / f"{line.utt}.wav"
        if line.utt in spent and path.is_file():
            continue
        spent[line.utt] = f"{speak(synthesizer, line, args.lang, path, args.seed):.4f}"
        write_table(times, spent)
    print(f"{args.out}: {len(lines)} clips")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", required=True, help=FORM)
    parser.add_argument("--list", type=Path, required=True)
    parser.add_argument("--lang", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", metavar="synthesis.KEY=VALUE")
    try:
        run(parser.parse_args())
    except UserError as e:
        return fail(None, str(e))
    return 0


if __name__ == "__main__":
    sys.exit(main())
