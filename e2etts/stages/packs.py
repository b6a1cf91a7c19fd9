"""Packs: a trained system as one folder or archive, with checksums."""

import gzip
import json
import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from e2etts.errors import UserError
from e2etts.files import file_sha256, replaced_folder

SUMS = "SHA256SUMS"
CHUNK_BYTES = 1 << 20


def make_pack(exp: Path, dump: Path, data: Path) -> Path:
    """Copy what inference needs from ``exp``, ``dump`` and ``data`` into ``exp/pack``.

    Replaces an older pack as a whole. Raises UserError naming the first missing input and the
    stage that makes it.
    """
    needed = {"config.yaml": (exp / "joint" / "config.yaml", 8),
              "text.model": (dump / "text.model", 2), "vocab.json": (dump / "vocab.json", 2)}
    for stage, number in (("joint", 8), ("vocoder", 3)):
        for name in ("model.safetensors", "meta.json"):
            needed[f"{stage}/{name}"] = (exp / stage / "best" / name, number)
    for source, number in needed.values():
        if not source.is_file():
            raise UserError(f"{source}: missing: run stage {number} of the recipe first")
    sources = {name: source for name, (source, _) in needed.items()}
    if (exp / "results.json").is_file():
        sources["results.json"] = exp / "results.json"
    attributions = sorted(data.rglob("ATTRIBUTION*"))
    with replaced_folder(exp / "pack") as part:
        for name, source in sources.items():
            (part / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source, part / name)
        (part / "README.md").write_text(model_card(exp, dump, attributions), encoding="utf-8")
        write_sums(part)
    return exp / "pack"


def model_card(exp: Path, dump: Path, attributions: list[Path]) -> str:
    """The pack's README: what it is, how to use it, what it was trained on."""
    vocab = json.loads((dump / "vocab.json").read_text(encoding="utf-8"))
    languages, voices = (", ".join(vocab[key]) for key in ("languages", "speakers"))
    scored = (exp / "results.json").is_file()
    credits = "\n\n".join(path.read_text(encoding="utf-8").strip() for path in attributions)
    return f"""# A text-to-speech system trained with e2etts

Method: arXiv 2606.09234. Run: `{exp.name}`. Languages: {languages}. Voices: {voices}.

- `config.yaml`: the full configuration; `text.model`, `vocab.json`: text tokens and labels
- `joint/`: tokenizer, language model, flow matching and reward model; `vocoder/`: mel to waveform
- `SHA256SUMS`: check the files with `sha256sum -c SHA256SUMS`

To speak in the voice of any recording, with e2etts installed:

```python
from e2etts.audio import load_wav_as, save_wav
from e2etts.synthesis_config import SynthesisConfig
from e2etts.infer.pipeline import Synthesizer

system = Synthesizer.load("joint", "vocoder", ".", SynthesisConfig())
rate_hz, lang = system.audio.sample_rate_hz, "{vocab["languages"][0]}"
voice = system.speaker_embedding([load_wav_as("voice.wav", rate_hz)])
[speech] = system.speak([system.text_ids("one two three", lang)], [lang], [voice])
save_wav("speech.wav", speech.wav, rate_hz)
```

{"Measured results are in `results.json`." if scored else "It has not been scored."}

## Data

{credits or "The corpus's own terms hold for the data; see the recipe that trained this system."}

## Limits

The voices are those of the training data. Do not use the system to imitate a person without
their consent, and label its speech as synthetic.
"""


def write_sums(folder: Path) -> None:
    """List the SHA-256 of every file of ``folder`` in its SHA256SUMS."""
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.name != SUMS)
    lines = [f"{file_sha256(f)}  {f.relative_to(folder).as_posix()}\n" for f in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def check_sums(folder: Path, source: Path) -> None:
    """Raise UserError naming ``source`` unless SHA256SUMS lists exactly the files, unchanged."""
    if not (folder / SUMS).is_file():
        raise UserError(f"{source}: no {SUMS}: not a pack of e2etts")
    listed = {}
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        listed[name] = digest
    present = {f.relative_to(folder).as_posix(): f
               for f in folder.rglob("*") if f.is_file() and f.name != SUMS}
    for name in sorted(listed.keys() ^ present.keys()):
        where = "in the archive" if name in present else f"in {SUMS}"
        raise UserError(f"{source}: {name} is only {where}: get the archive again")
    for name, path in sorted(present.items()):
        if file_sha256(path) != listed[name]:
            raise UserError(f"{source}: {name} differs from its checksum: get the archive again")


def archive_pack(folder: Path, target: Path) -> None:
    """Write ``folder`` as a .tar.gz whose bytes depend only on names and contents."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with (part.open("wb") as raw,
              gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as packed,
              tarfile.open(fileobj=packed, mode="w") as tar):
            for file in sorted(f for f in folder.rglob("*") if f.is_file()):
                entry = tarfile.TarInfo(file.relative_to(folder).as_posix())
                entry.size, entry.mode = file.stat().st_size, 0o644
                with file.open("rb") as stream:
                    tar.addfile(entry, stream)
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)


def unpack_archive(source: Path, folder: Path) -> None:
    """Unpack an untrusted archive into the new folder ``folder``.

    Only plain files with names inside the folder are accepted, and only where SHA256SUMS agrees.
    Raises UserError, leaving nothing behind, otherwise.
    """
    if folder.exists():
        raise UserError(f"{folder}: exists already; choose a new folder")
    with replaced_folder(folder) as part:
        try:
            with tarfile.open(source, "r:gz") as tar:
                for entry in tar:
                    extract_file(tar, entry, part, source)
        except (FileNotFoundError, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as e:
            raise UserError(f"{source}: not a whole .tar.gz archive ({e}): get it again") from e
        check_sums(part, source)


def extract_file(tar: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path, source: Path) -> None:
    """Write one archive entry below ``folder``; UserError for a link, device or escaping name."""
    path = PurePosixPath(entry.name)
    inside = not path.is_absolute() and ".." not in path.parts and path.parts
    if entry.isdir() and inside:
        return
    if not entry.isreg() or not inside or "\\" in entry.name:
        raise UserError(f"{source}: entry '{entry.name}' is not a plain file inside the archive: "
                        "do not trust it")
    target = folder / path
    if target.exists():
        raise UserError(f"{source}: entry '{entry.name}' occurs twice: do not trust it")
    target.parent.mkdir(parents=True, exist_ok=True)
    stream = tar.extractfile(entry)
    with target.open("wb") as out:
        shutil.copyfileobj(stream, out, CHUNK_BYTES)
