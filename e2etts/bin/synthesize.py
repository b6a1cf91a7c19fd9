"""Synthesize test sets and sentences: copy synthesis, text-to-speech, voice prompts (stage 9).

Reads exp/TAG/joint/best, exp/TAG/vocoder/best, dump/; writes exp/TAG/wavs/SYSTEM/SET/ (wavs and
manifest.jsonl) and exp/TAG/tokens.json (codebook usage). A SOURCE is a stage of this run, or the
folder of a stage, checkpoint or pack.

examples:
  e2etts synthesize                          synthesize every set with the joint system
  e2etts synthesize --system tokenizer       use the system of an earlier stage
  e2etts synthesize --tag newlm --vocoder exp/default/vocoder
  e2etts synthesize --text "Hello there." --out hello.wav
  e2etts synthesize --text "Hello there." --style whisper --out whisper.wav
  e2etts synthesize --text "Hello." --prompt me.wav --prompt_text "Words of me.wav." --out me2.wav
"""

import argparse

from e2etts.cli import add_checkpoint_argument, add_recipe_arguments, experiment_folder
from e2etts.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--system", default="joint", metavar="SOURCE",
                        help="of tokenizer, LM, FM and RM (default: %(default)s)")
    parser.add_argument("--vocoder", default="vocoder", metavar="SOURCE",
                        help="of the vocoder (default: %(default)s)")
    add_checkpoint_argument(parser)
    parser.add_argument("--wavs", default="wavs", metavar="NAME",
                        help="folder below exp/TAG to write to (default: %(default)s)")
    parser.add_argument("--text", help="synthesize this text instead of the sets")
    parser.add_argument("--lang", default="en", help="language of --text (default: %(default)s)")
    parser.add_argument("--speaker", help="speaker of --text (default: the first of its language)")
    parser.add_argument("--style", metavar="LABEL",
                        help="style of --text: an emotion label of the training data (default: "
                             "none; sets have theirs in utt2emo)")
    parser.add_argument("--prompt", metavar="WAV", help="synthesize in the voice of this recording")
    parser.add_argument("--prompt_text", help="transcript of the recording")
    parser.add_argument("--out", metavar="WAV", help="file to write --text to")
    add_recipe_arguments(parser)


def run(args: argparse.Namespace) -> None:
    check(args)
    from e2etts.infer.pipeline import Synthesizer
    from e2etts.recipe import load_recipe
    from e2etts.stages.start import checkpoint_folder
    from e2etts.stages.synthesize import SetSynthesizer, count_tokens, speak_text

    recipe, root = load_recipe(args.config, args.overrides), experiment_folder(args)
    synthesizer = Synthesizer.load(
        checkpoint_folder(args.system, recipe, root, which=args.checkpoint),
        checkpoint_folder(args.vocoder, recipe, root, "vocoder", args.checkpoint),
        recipe.corpus.dump_dir, recipe.synthesis)
    if args.text is not None:
        seconds = speak_text(recipe, synthesizer, args.text, args.out, lang=args.lang,
                             speaker=args.speaker, style=args.style,
                             prompt=(args.prompt, args.prompt_text) if args.prompt else None)
        print(f"{args.out}: {seconds:.2f} s")
        return
    sets = SetSynthesizer(recipe, synthesizer, root / args.wavs)
    sets.every_set()
    count_tokens(sets, root / "tokens.json")


def check(args: argparse.Namespace) -> None:
    """Raise UserError for options that do not belong together."""
    if args.text is None:
        if args.style is not None:
            raise UserError("--style belongs to --text: sets state the styles of their utterances "
                            "in utt2emo")
    elif not args.out:
        raise UserError("--text needs --out FILE.wav to write to")
    elif (args.prompt is None) != (args.prompt_text is None):
        raise UserError("--prompt and --prompt_text belong together: give both or none")
