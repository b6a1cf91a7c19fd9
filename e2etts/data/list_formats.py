"""Lists of utterances as people have them, read row by row: CSV, JSON lines, parquet, arrow."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from e2etts.errors import UserError

# What a column may hold -> names that it goes by in published data sets.
COLUMNS = {
    "audio": ("audio", "file_name", "audio_file", "audio_path", "path", "wav", "file", "filename"),
    "text": ("text", "sentence", "transcription", "transcript", "normalized_text"),
    "speaker": ("speaker", "speaker_id", "speaker_name", "client_id", "spk"),
    "lang": ("lang", "language", "locale"),
    "emotion": ("emotion", "style"),
    "id": ("id", "utt_id", "utterance_id"),
    "start": ("start", "start_seconds"),
    "end": ("end", "end_seconds"),
}
SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".parquet", ".arrow")


class Row(NamedTuple):
    """place: file and line or row number. values: column -> text, number or, for audio, the
    mapping of path and bytes that Hugging Face stores."""

    place: str
    values: dict[str, Any]


def list_files(path: str | Path) -> list[Path]:
    """The file itself, or the lists of a folder: metadata.csv or .jsonl (Hugging Face
    ``audiofolder``), or its parquet or arrow files (``datasets`` saved on disk).

    Raises UserError, with the folders that hold lists, where there is none.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such list; give a file or a folder with metadata.csv, "
                        "metadata.jsonl or parquet files")
    for pattern in ("metadata.csv", "metadata.jsonl", "*.parquet", "*.arrow"):
        if found := sorted(path.glob(pattern)):
            return found
    below = sorted({str(p.parent) for pattern in ("metadata.*", "*.parquet", "*.arrow")
                    for p in path.glob(f"*/{pattern}")})
    hint = f"name one of {', '.join(below[:8])}" if below else "it holds no metadata or parquet"
    raise UserError(f"{path}: no list in this folder: {hint}")


def read_list(path: Path, delimiter: str | None, headless: bool) -> Iterator[Row]:
    """Rows of one list. ``headless``: the first line names no columns; they are called 1, 2, ...

    Raises UserError for an unknown kind of file, bytes that are not UTF-8, or a broken row.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: unknown kind of list; known: {', '.join(SUFFIXES)}")
    try:
        if path.suffix in (".parquet", ".arrow"):
            yield from _columnar(path)
        elif path.suffix == ".jsonl":
            yield from _json_lines(path)
        else:
            yield from _separated(path, delimiter, headless)
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: not UTF-8 (byte {e.start}); convert the file to UTF-8") from e
    except (OSError, csv.Error) as e:
        raise UserError(f"{path}: cannot read the list: {e}") from e


def _separated(path: Path, delimiter: str | None, headless: bool) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        delimiter = delimiter or ("\t" if path.suffix == ".tsv" else _delimiter(first))
        # Only comma and semicolon need quotes; elsewhere a quote is a character of the text.
        quoting = csv.QUOTE_MINIMAL if delimiter in ",;" else csv.QUOTE_NONE
        reader = csv.reader(file, delimiter=delimiter, quoting=quoting)
        names = None if headless else next(reader, [])
        for cells in reader:
            if not cells:
                continue
            place = f"{path}:{reader.line_num}"
            if names is None:
                yield Row(place, {str(i): cell for i, cell in enumerate(cells, start=1)})
            elif len(cells) != len(names):
                raise UserError(f"{place}: {len(cells)} cells, but the first line names "
                                f"{len(names)} columns; correct the line (quotes?)")
            else:
                yield Row(place, dict(zip(names, cells, strict=True)))


def _delimiter(first_line: str) -> str:
    """Texts hold commas and semicolons, but hardly a bar or a tab."""
    rare = next((d for d in "|\t" if d in first_line), None)
    return rare or max(",;", key=first_line.count)


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except ValueError as e:
                raise UserError(f"{path}:{number}: not JSON: {e}") from e
            if not isinstance(values, dict):
                raise UserError(f"{path}:{number}: expected an object of columns")
            yield Row(f"{path}:{number}", values)


def _columnar(path: Path) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as e:
        raise UserError(f"{path}: reading it takes the package pyarrow: run tools/install.sh "
                        "--extras data") from e
    try:
        with path.open("rb") as file:
            if path.suffix == ".parquet":
                table = pyarrow.parquet.ParquetFile(file)
                schema, batches = table.schema_arrow, table.iter_batches(batch_size=64)
            else:  # the stream that datasets.save_to_disk writes
                batches = pyarrow.ipc.open_stream(file)
                schema = batches.schema
            names, number = _class_names(schema), 0
            for batch in batches:
                for values in batch.to_pylist():
                    number += 1
                    for column, labels in names.items():
                        place = values[column]
                        if isinstance(place, int):  # -1: no label
                            values[column] = labels[place] if place >= 0 else None
                    yield Row(f"{path}:{number}", values)
    except pyarrow.ArrowException as e:
        raise UserError(f"{path}: damaged: {e}") from e


def _class_names(schema: Any) -> dict[str, list[str]]:
    """Label columns, which Hugging Face stores as numbers -> the names of the numbers."""
    stored = (schema.metadata or {}).get(b"huggingface", b"{}")
    features = json.loads(stored).get("info", {}).get("features", {})
    return {column: about["names"] for column, about in features.items()
            if isinstance(about, dict) and about.get("_type") == "ClassLabel"}


def audio_bytes(value: Any) -> io.BytesIO | None:
    """The file that is stored within an audio cell of Hugging Face, if any."""
    stored = value.get("bytes") if isinstance(value, dict) else None
    return io.BytesIO(stored) if stored else None
