"""Write pseudo emotion labels (utt2emo) into data folders with an external classifier.

Utterances with a label keep it. All predictions and their confidence are kept in utt2emo_pseudo, so
another threshold does not run the model again. Delete the file to use another model.

examples:
  e2etts label-emotions data/train --model models/emotion
  e2etts label-emotions data/train --model models/emotion --confidence 0.8 --rename hap=happy
"""

import argparse

from e2etts.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directories", nargs="+", metavar="DIR")
    parser.add_argument("--model", required=True, metavar="NAME",
                        help="audio-classification model of transformers: a folder, or its name on "
                             "the Hugging Face hub; weights in safetensors")
    parser.add_argument("--confidence", type=float, default=0.6, metavar="P",
                        help="minimum probability of a label (default: %(default)s)")
    parser.add_argument("--rename", action="append", default=[], metavar="OLD=NEW",
                        help="write label NEW for the model's label OLD; may be repeated")


def run(args: argparse.Namespace) -> None:
    wrong = [r for r in args.rename if not all(r.partition("="))]
    if wrong:
        raise UserError(f"--rename {wrong[0]}: expected OLD=NEW")
    from e2etts.data.emotion_labels import TransformersEmotion, label_emotions

    model = TransformersEmotion(args.model)
    for directory in args.directories:
        label_emotions(directory, model, least_confidence=args.confidence,
                       rename=dict(r.split("=", 1) for r in args.rename))
