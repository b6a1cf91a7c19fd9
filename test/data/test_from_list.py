"""Lists as people have them become the same set; what is broken is named with its place."""

import io
import json

import numpy as np
import pytest
import soundfile

from e2etts.data.from_list import LJSPEECH, ListOptions, data_from_lists
from e2etts.data.list_formats import list_files, read_list
from e2etts.errors import UserError

RATE = 16000


def wav_bytes(seconds=0.1, rate=RATE):
    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.ones(int(seconds * rate)), rate, "PCM_16", format="WAV")
    return file.getvalue()


@pytest.fixture
def corpus(tmp_path):
    """clips/a/1.wav, clips/a/2.wav, clips/b/1.wav"""
    for name in ("a/1", "a/2", "b/1"):
        path = tmp_path / f"clips/{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wav_bytes())
    return tmp_path


def run(corpus, content, name="list.csv", **options):
    path = corpus / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return data_from_lists([path], ListOptions(**{"lang": "en", "speaker": "x", **options}),
                  corpus / "new", RATE)


SAME = {"x-a-1": "One, two.", "x-a-2": 'Say "no".', "x-b-1": "Four"}


@pytest.mark.parametrize("name, content, options", [
    ("list.csv", 'file,sentence\nclips/a/1.wav,"One, two."\nclips/a/2.wav,"Say ""no""."\n'
                 'clips/b/1.wav,Four\n', {"columns": {"text": "sentence"}}),
    ("list.csv", '\ufefffile_name;text\r\nclips/a/1.wav;One, two.\r\nclips/a/2.wav;"Say ""no""."'
                 '\r\nclips/b/1.wav;" Four "\r\n', {}),
    ("list.tsv", 'path\tsentence\nclips/a/1.wav\tOne, two.\nclips/a/2.wav\tSay "no".\n'
                 'clips/b/1.wav\tFour\n', {}),
    ("list.txt", 'clips/a/1|One, two.\nclips/a/2|Say "no".\nclips/b/1|Four\n',
     {"columns": {"audio": "1", "text": "2"}}),
    ("list.jsonl", '{"audio": "clips/a/1.wav", "text": "One, two."}\n\n'
                   '{"audio": "clips/a/2.wav", "text": "Say \\"no\\"."}\n'
                   '{"audio": "clips/b/1.wav", "text": "Four"}\n', {}),
])
def test_every_kind_of_list_gives_the_same_set(corpus, name, content, options):
    data, left_out = run(corpus, content, name, **options)
    assert data.text == SAME and not left_out
    assert data.wav["x-b-1"] == str(corpus / "clips/b/1.wav")
    assert set(data.utt2lang.values()) == {"en"} and set(data.utt2spk.values()) == {"x"}


def test_ljspeech(corpus):
    """Quotes that do not pair, names without ending, and normalised text where there is any."""
    (corpus / "clips/a").rename(corpus / "wavs")
    data, left_out = run(corpus, '1|Dr. "No|Doctor "No\n2|Plain|\n', "metadata.csv",
                         columns=LJSPEECH, audio_dir=corpus / "wavs")
    assert data.text == {"x-1": 'Doctor "No', "x-2": "Plain"} and not left_out


def test_labels_of_columns_and_folders(corpus):
    data, _ = run(corpus, "audio,text,speaker,locale,emotion\nclips/a/1.wav,One,Anna B,en-US,sad\n"
                          "clips/b/1.wav,Eins,ben,DE,\n", speaker=None, lang=None)
    assert data.utt2spk == {"Anna_B-a-1": "Anna_B", "ben-b-1": "ben"}
    assert data.utt2lang == {"Anna_B-a-1": "en", "ben-b-1": "de"}
    assert data.utt2emo == {"Anna_B-a-1": "sad"}
    data, _ = run(corpus, "audio,text\nclips/a/1.wav,One\nclips/b/1.wav,Two\n", speaker=None,
                  folder_speaker=True)
    assert data.utt2spk == {"a-1": "a", "b-1": "b"}


def test_start_and_end_become_segments(corpus):
    data, left_out = run(corpus, "audio,text,start,end\nclips/a/1.wav,One,0,0.05\n"
                                 "clips/a/1.wav,Two,0.05,\nclips/b/1.wav,All,,\n"
                                 "clips/a/2.wav,Wrong,3,2\nclips/a/2.wav,Wrong,x,2\n")
    assert sorted(data.segments.values()) == ["a-1 0 0.05", "a-1 0.05 -1", "b-1 0 -1"]
    assert data.wav == {k: str(corpus / f"clips/{k[0]}/{k[2]}.wav") for k in ("a-1", "b-1")}
    assert [place.rpartition(":")[2] for _, place, _ in left_out] == ["5", "6"]


def test_what_is_left_out_is_listed_with_its_line(corpus):
    data, left_out = run(
        corpus, "audio,text,id\nclips/a/1.wav,One,u1\nclips/none.wav,Two,u2\nclips/a/2.wav, ,u3\n"
                ",Four,u4\nclips/a/1.wav,Five,u5\nclips/b/1.wav,Six,u1\n")
    assert data.text == {"u1": "One"}
    told = {place.rpartition(":")[2]: (name, reason) for name, place, reason in left_out}
    assert told["3"] == ("u2", f"no such file: {corpus / 'clips/none.wav'}")
    assert told["4"] == ("u3", "no text") and told["5"] == ("u4", "no audio named")
    assert told["6"] == ("u5", f"same audio as another row: {corpus / 'list.csv'}:2")
    assert told["7"] == ("u1", "id occurs twice")


@pytest.mark.parametrize("name, content, told", [
    ("list.csv", "a,b\nclips/a/1.wav,One\n", "list.csv: no column is called audio or .* a, b"),
    ("list.csv", "audio,text\nclips/a/1.wav,One, two\n", "list.csv:2: 3 cells, but .* 2 columns"),
    ("list.csv", b"audio,text\nclips/a/1.wav,\xe9t\xe9\n", "list.csv: not UTF-8"),
    ("list.csv", "audio,text\nclips/x.wav,One\n", "none of 1 rows .* no such file"),
    ("list.csv", "", "none of 0 rows"),
    ("list.jsonl", '{"audio": "clips/a/1.wav", "text": "One"}\n{"audio"\n', "jsonl:2: not JSON"),
    ("list.jsonl", "[1]\n", "jsonl:1: expected an object"),
    ("list.parquet", "PAR1", "list.parquet: damaged"),
    ("list.arrow", "xxxxxxxxxx", "list.arrow: damaged"),
    ("list.xlsx", "PK", "unknown kind of list; known: .csv"),
    ("none.csv", None, "no such list"),
])
def test_broken_lists(corpus, name, content, told):
    with pytest.raises(UserError, match=told):
        run(corpus, content, name)


@pytest.mark.parametrize("options, told", [
    ({"speaker": None}, "no column has the speaker: give --speaker NAME"),
    ({"lang": None}, "no column has the lang: give --lang NAME"),
    ({"columns": {"text": "words"}}, "csv:2: no column 'words' .text.; there are: audio, text"),
])
def test_what_the_list_does_not_say(corpus, options, told):
    with pytest.raises(UserError, match=told):
        run(corpus, "audio,text\nclips/a/1.wav,One\n", **options)


def test_hugging_face_folders(corpus):
    with pytest.raises(UserError, match="no list in this folder: it holds no metadata"):
        list_files(corpus)
    (corpus / "clips/metadata.csv").write_text("file_name,transcription\na/1.wav,One\n")
    with pytest.raises(UserError, match=f"name one of {corpus}/clips"):
        list_files(corpus)
    data, _ = run(corpus, None, "clips")
    assert data.text == {"x-1": "One"}


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_audio_stored_in_tables(corpus, kind):
    """As ``datasets`` writes them: a shard of parquet, or the stream of save_to_disk."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    features = {"emotion": {"names": ["calm", "sad"], "_type": "ClassLabel"},
                "audio": {"_type": "Audio"}, "text": {"dtype": "string", "_type": "Value"}}
    table = pa.table({
        "audio": [{"bytes": wav_bytes(0.1, 32000), "path": "one.wav"},
                  {"bytes": b"RIFFnothing", "path": None},
                  {"bytes": None, "path": "clips/b/1.wav"},
                  {"bytes": wav_bytes(0.2), "path": None}],
        "text": ["One", "Broken", "Path", "Four"], "emotion": [1, 0, 1, -1],
    }).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path = corpus / f"train-00000-of-00001.{kind}"
    if kind == "parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    data, left_out = run(corpus, None, path.name)
    assert sorted(data.text.values()) == ["Four", "One", "Path"]
    assert data.utt2emo == {"x-one": "sad", "x-1": "sad"}
    info = soundfile.info(data.wav["x-one"])
    assert (info.samplerate, info.frames) == (RATE, 1600)
    assert data.wav["x-1"] == str(corpus / "clips/b/1.wav")
    ((_, place, reason),) = left_out
    assert place.endswith(":2") and reason.startswith("unreadable audio")
    assert list_files(corpus) == [path] and len(list(read_list(path, None, False))) == 4


def test_an_id_of_two_shards_keeps_the_first_audio(corpus):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    for shard, seconds in ((0, 0.1), (1, 0.2)):
        pyarrow.parquet.write_table(pa.table({
            "audio": [{"bytes": wav_bytes(seconds), "path": "same.wav"}], "text": ["Words"]}),
            corpus / f"shards-{shard}.parquet")
    data, left_out = run(corpus, None, ".")
    assert soundfile.info(data.wav["x-same"]).frames == 1600
    assert [row[2] for row in left_out] == ["id occurs twice"]


def test_ids_begin_with_the_whole_speaker(corpus):
    (corpus / "clips/a/1.wav").rename(corpus / "clips/s10_1.wav")
    data, _ = run(corpus, "audio,text,speaker\nclips/s10_1.wav,One,s10\nclips/a/2.wav,Two,a\n"
                          "clips/b/1.wav,Three,s1\n")
    assert data.utts == ["a-2", "s1-b-1", "s10_1"]


def test_names_cannot_leave_the_folder(corpus):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table({
        "audio": [{"bytes": wav_bytes(), "path": "../../up.wav"},
                  {"bytes": wav_bytes(), "path": None}],
        "text": ["One", "Two"], "id": [None, "/../../out"]}), corpus / "list.parquet")
    data, _ = run(corpus, None, "list.parquet")
    assert data.utts == ["out", "x-up"]
    assert {str(p.relative_to(corpus)) for p in corpus.rglob("*.wav")} >= {
        "new/unpacked/out.wav", "new/unpacked/x-up.wav"}


def test_sentences_need_no_audio(corpus):
    data, left_out = run(corpus, "en|Hello there.\nit|Buongiorno.\nen|\n", "sentences.txt",
                         columns={"lang": "1", "text": "2"}, text_only=True)
    assert data.text == {"x-sentences-0001": "Hello there.", "x-sentences-0002": "Buongiorno."}
    assert data.utt2lang["x-sentences-0002"] == "it" and not data.wav and len(left_out) == 1
