"""Make a data directory from a list of utterances and their audio.

LIST is a CSV or TSV file, JSON lines, parquet or arrow, or a folder with metadata.csv,
metadata.jsonl or parquet files (Hugging Face datasets on disk). Columns with the usual names
(audio or file_name, text or sentence, speaker, language, emotion, ...) are found automatically;
name others with --columns. Columns start and end (seconds) cut long recordings.

Audio of another sample rate or of several channels, or stored in the list, is converted into
--wav_dir; other audio stays where it is. Rows that cannot be used are listed with the reason in
OUT/left_out.tsv.

examples:
  python utils/from_csv.py corpus/metadata.csv data/all --lang en --speaker anna --rate 24000
  python utils/from_csv.py list.csv data/all --columns audio=clip text=sentence --audio_dir clips
  python utils/from_csv.py LJSpeech-1.1/metadata.csv data/all --ljspeech --lang en --speaker lj
  python utils/from_csv.py train.txt data/all --columns audio=1 speaker=2 text=3 --lang en
  python utils/from_csv.py hf_corpus/data/train-*.parquet data/all --lang de
  python utils/from_csv.py sentences.txt data/sentences --text_only --columns lang=1 text=2 \\
      --speaker anna
"""

import argparse
import sys
from pathlib import Path

from e2etts.cli import tool
from e2etts.data.edit import check_output, report_left_out
from e2etts.data.from_list import LJSPEECH, ListOptions, data_from_lists
from e2etts.data.list_formats import COLUMNS
from e2etts.data.recordings import converted
from e2etts.data.validate import Limits
from e2etts.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("lists", nargs="+", metavar="LIST", help="file or folder; OUT comes last")
    parser.add_argument("out", type=Path, metavar="OUT", help="data directory to write")
    parser.add_argument("--columns", nargs="+", default=[], metavar="WHAT=COLUMN",
                        help=f"which column is what ({', '.join(COLUMNS)}): its name, or its "
                             "number from 1 where the first line names no columns")
    parser.add_argument("--ljspeech", action="store_true",
                        help="a list of id|text|text with numbers written out, audio in wavs/")
    parser.add_argument("--delimiter", help="default: a bar or tab where the first line holds one, "
                                            "else comma or semicolon")
    parser.add_argument("--audio_dir", type=Path, metavar="DIR",
                        help="what audio paths start from (default: the folder of the list)")
    parser.add_argument("--suffix", default=".wav", help="ending of audio files whose names lack "
                                                         "it (default: %(default)s)")
    parser.add_argument("--speaker", metavar="NAME", help="speaker, where no column has it")
    parser.add_argument("--folder_speaker", action="store_true",
                        help="the speaker is the folder that holds the audio file")
    parser.add_argument("--lang", help="language, where no column has it, such as en")
    parser.add_argument("--text_only", action="store_true",
                        help="the list holds sentences to synthesize, without audio")
    parser.add_argument("--rate", type=int, default=Limits().sample_rate_hz, metavar="HZ",
                        help="sample rate of the corpus to be made (default: %(default)s)")
    parser.add_argument("--wav_dir", type=Path, metavar="DIR",
                        help="where converted audio goes (default: OUT/wav)")
    parser.add_argument("--workers", type=int, default=2, metavar="N",
                        help="processes that convert audio (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    check_output(args.out, args.lists)
    columns = dict(map(_column, args.columns))
    audio_dir, delimiter = args.audio_dir, args.delimiter
    if args.ljspeech:
        columns, delimiter = LJSPEECH | columns, delimiter or "|"
        first = Path(args.lists[0])
        audio_dir = audio_dir or (first if first.is_dir() else first.parent) / "wavs"
    options = ListOptions(
        columns=columns, audio_dir=audio_dir, suffix=args.suffix, speaker=args.speaker,
        folder_speaker=args.folder_speaker, lang=args.lang, delimiter=delimiter,
        text_only=args.text_only)
    wav_dir = args.wav_dir or args.out / "wav"
    data, left_out = data_from_lists(args.lists, options, wav_dir, args.rate)
    if not args.text_only:
        data, wrong = converted(data, wav_dir, args.rate, args.workers)
        left_out += [(utt, "audio", reason) for utt, reason in wrong.items()]
    data.save(args.out)
    print(f"{args.out}: {len(data)} utterances of {len(set(data.utt2spk.values()))} speakers")
    report_left_out(args.out / "left_out.tsv", left_out)


def _column(text: str) -> tuple[str, str]:
    what, _, column = text.partition("=")
    if what not in COLUMNS or not column:
        raise UserError(f"--columns {text}: write WHAT=COLUMN with one of {', '.join(COLUMNS)}")
    return what, column


if __name__ == "__main__":
    sys.exit(tool(__file__, __doc__, add_arguments, run))
