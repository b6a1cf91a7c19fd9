"""Small trees of public corpora in their published layout, with made-up voices in them."""

import io
import json
import tarfile

import numpy as np
import soundfile

WORDS = ["old", "river", "turns", "under", "quiet", "bridge", "while", "seven", "white", "birds",
         "cross", "morning", "light", "small", "boats", "carry", "bread", "every", "village"]


def voice(seed: int, seconds: float, rate_hz: int, silence_seconds: float = 0.0) -> np.ndarray:
    """(samples,) of a harmonic tone that moves in pitch and loudness, like speech from afar."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    pitch = random.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * random.uniform(0.5, 2) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate_hz
    tone = sum(np.sin(k * phase) / k for k in range(1, 9))
    loud = 0.1 + 0.9 * np.sin(np.pi * random.uniform(2, 4) * time) ** 2
    wav = 0.15 * tone * loud + 0.001 * random.standard_normal(len(time))
    edge = np.zeros(round(silence_seconds * rate_hz))
    return np.concatenate([edge, wav, edge])


def sentence(seed: int, words: int = 5) -> str:
    chosen = np.random.default_rng(seed).choice(WORDS, words)
    return " ".join(chosen).capitalize() + "."


def write(path, wav: np.ndarray, rate_hz: int, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wav, rate_hz, **options)


def libritts(root, speakers: int = 2, utts: int = 3, seconds: float = 1.2) -> None:
    """LibriTTS/<part>/<speaker>/<chapter>/, all parts, each with speakers of its own."""
    parts = ("train-clean-100", "train-clean-360", "train-other-500", "dev-clean", "dev-other",
             "test-clean", "test-other")
    for p, part in enumerate(parts):
        for s in range(speakers):
            speaker, chapter = str(100 * (p + 1) + s), str(121123 + s)
            for u in range(utts):
                name = f"{speaker}_{chapter}_{u:06d}_{u % 2:06d}"
                seed = 1000 * p + 100 * s + u
                folder = root / "LibriTTS" / part / speaker / chapter
                write(folder / f"{name}.wav", voice(seed, seconds + 0.1 * u, 24000), 24000)
                text = sentence(seed)
                (folder / f"{name}.original.txt").write_text(text.replace("seven", "7"))
                (folder / f"{name}.normalized.txt").write_text(text + "\n")
            (folder / f"{speaker}_{chapter}.trans.tsv").write_text("")


def ljspeech(root, clips: int = 12) -> None:
    """LJSpeech-1.1/: metadata.csv with a lone quotation mark, abbreviations, numbers."""
    folder, rows = root / "LJSpeech-1.1", []
    for i in range(clips):
        name = f"LJ001-{i + 1:04d}"
        write(folder / "wavs" / f"{name}.wav", voice(i, 1.2 if i else 2.5, 22050), 22050)
        rows.append(f"{name}|{sentence(i)}|{sentence(i)}")
    rows[0] = ('LJ001-0001|"Mr. Wood & Co., of St. James, No. 5|'
               '"Mr. Wood and Co., of St. James, No. five')
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def vctk(root, sentences: int = 5) -> None:
    """txt/ and wav48_silence_trimmed/ of five speakers: one without texts, one with a text that
    has no recording, one without a second microphone, and s5."""
    for s, speaker in enumerate(("p225", "p280", "p315", "p362", "s5")):
        for n in (1, *range(25, 25 + sentences)):
            name = f"{speaker}_{n:03d}"
            text = root / "txt" / speaker / f"{name}.txt"
            audio = root / "wav48_silence_trimmed" / speaker
            if speaker != "p315":
                text.parent.mkdir(parents=True, exist_ok=True)
                text.write_text((sentence(n) if n == 1 else sentence(100 * s + n)) + "\n")
            if name == "p362_025":
                continue
            wav = voice(100 * s + n, 1.0, 48000, silence_seconds=0.4)
            for mic in ("mic1",) if speaker == "p280" else ("mic1", "mic2"):
                write(audio / f"{name}_{mic}.flac", wav, 48000)


PINYIN = """guang3 zhou1 nv3 da4 xue2 sheng1 deng1 shan1 shi1 lian2 si4 tian1 jing3 fang1 zhao3
dao4"""
CHARACTERS = list(zip("广州女大学生登山失联四天警方找到", PINYIN.split(), strict=True))


def mandarin(seed: int, length: int = 6) -> list[tuple[str, str]]:
    """(character, pinyin) of a made-up sentence."""
    chosen = np.random.default_rng(seed).permutation(len(CHARACTERS))[:length]
    return [CHARACTERS[i] for i in chosen]


def aishell3(root, utts: int = 6) -> None:
    """{train,test}/content.txt and wav/: one speaker of the test set is not in training."""
    for part, speakers in (("train", ("SSB0005", "SSB0009")), ("test", ("SSB0005", "SSB0693"))):
        rows = []
        for s, speaker in enumerate(speakers):
            for u in range(utts):
                number = u + 1 + 100 * (part == "test")
                name, seed = f"{speaker}{number:04d}.wav", 1000 * s + number
                write(root / part / "wav" / speaker / name, voice(seed, 1.5, 44100), 44100)
                rows.append(name + "\t" + " ".join(f"{c} {p}" for c, p in mandarin(seed)))
        (root / part / "content.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")


def esd(root, folders_of_sets: bool = True) -> None:
    """Four speakers with transcripts in four encodings, some with spaces for tabs; three sentences
    of each emotion, one in each set."""
    labels = {"Angry": "生气", "Happy": "快乐", "Neutral": "中立", "Sad": "伤心",
              "Surprise": "惊喜"}
    encodings = {"0001": "gb2312", "0003": "utf-16", "0012": "utf-16", "0016": "cp1252"}
    for speaker, encoding in encodings.items():
        rows, chinese = [], int(speaker) <= 10
        for e, emotion in enumerate(("Neutral", "Angry", "Happy", "Sad", "Surprise")):
            for sentence_number, folder in ((5, "evaluation"), (30, "test"), (60, "train"),
                                            (61, "train")):
                utt = f"{speaker}_{350 * e + sentence_number:06d}"
                path = root / speaker / emotion / (folder if folders_of_sets else "")
                write(path / f"{utt}.wav", voice(int(utt[-6:]), 1.2, 16000), 16000)
                text = ("".join(c for c, _ in mandarin(sentence_number)) + "。" if chinese
                        else sentence(sentence_number).replace("seven", "l’été"))
                space = "  " if encoding == "cp1252" else "\t"
                rows.append(space.join((utt, text, labels[emotion] if chinese else emotion)))
        (root / speaker / f"{speaker}.txt").write_bytes("\r\n".join([*rows, ""]).encode(encoding))


def emilia(root, speakers: int = 8, clips: int = 4) -> None:
    """{Emilia,Emilia-YODAS}/{EN,ZH}/*.tar of mp3 and json pairs, mp3 first in one of them, and a
    clip each of low quality, of another language, without audio, with another key, and with a text
    that loops or has another script."""
    for corpus, key_field, shard in (("Emilia", "id", 0), ("Emilia-YODAS", "_id", 1)):
        for lang in ("en", "zh"):
            members = []
            for s in range(speakers):
                source = f"B00000_S{s:05d}" if key_field == "id" else f"a_b-C{s}"
                for c in range(clips):
                    seed = 1000 * shard + 10 * s + c
                    key = f"{lang.upper()}_{source}_W{c:06d}"
                    text = sentence(seed) if lang == "en" else "".join(x for x, _ in mandarin(seed))
                    about = {key_field: key, "text": f" {text}", "duration": 1.2, "language": lang,
                             "speaker": key.rpartition("_")[0], "dnsmos": 3.2}
                    members.append([key, mp3(seed), about])
            if corpus == "Emilia" and lang == "en":
                members[0][2]["dnsmos"] = 2.9
                members[1][2]["language"] = "fr"
                members[2][2]["id"] = "../../escape"
                members[3][1] = None
                members[4][2]["text"] = " Thank you for watching. " * 8
                members[5][2]["text"] = " Then she said 再见."
                for clip in range(clips):  # a speaker of bad_speakers.txt
                    key = f"EN_B00013_S00913_W{clip:06d}"
                    members.append([key, mp3(clip), {**members[8][2], "id": key,
                                                     "speaker": "EN_B00013_S00913"}])
            path = root / corpus / lang.upper() / f"{lang.upper()}-B{shard:06d}.tar"
            write_tar(path, [(f"{key}{end}", raw) for key, sound, about in members
                             for end, raw in ((".mp3", sound),
                                              (".json", json.dumps(about).encode())) if raw])


def mp3(seed: int) -> bytes:
    raw = io.BytesIO()
    soundfile.write(raw, voice(seed, 1.2, 24000), 24000, format="MP3")
    return raw.getvalue()


def write_tar(path, members: list[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, raw in members:
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
