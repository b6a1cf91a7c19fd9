import pytest

from e2etts.score.error_rates import (
    align,
    count_errors,
    error_rates,
    join_compounds,
    mean_interval,
    rate_interval,
    words_of,
)

pytest.importorskip("whisper_normalizer")


def test_worked_example():
    # the cat sat on the mat / the hat sat the mat now: 1 substituted, 1 deleted, 1 inserted
    e = count_errors("The cat sat on the mat.", "the hat sat the mat now", "en")
    assert (e.substituted, e.deleted, e.inserted, e.words) == (1, 1, 1, 6)
    # thecatsatonthemat / thehatsatthematnow: c>h, o and n deleted, n o w inserted
    assert (e.char_edits, e.chars) == (6, 17)


def test_a_set_is_weighted_by_its_words():
    long = count_errors("one two three four five six seven ate nine", "", "en")
    short = count_errors("hello", "hello", "en")
    wer, cer = error_rates([long, short])
    assert wer == pytest.approx(long.words / (long.words + 1))
    assert cer == pytest.approx(long.chars / (long.chars + 5))


@pytest.mark.parametrize(("reference", "hypothesis", "lang"), [
    ("Press one.", "press 1", "en"),
    ("eight five", "85", "en"), ("eight five", "8 5", "en"),
    ("twenty-one", "21", "en"),
    ("Your mail box is full", "your mailbox is full", "en"),
    ("your mailbox is full", "Your mail box is full!", "en"),
    ("... extension ...", "Extension.", "en"),
    ("I'm sorry", "I am sorry", "en"), ("the colour", "the color", "en"),
    ("Oprima el 5", "oprima el cinco", "es"), ("mañana, café", "Manana cafe", "es"),
    ("нажмите 2", "Нажмите два", "ru"),
])
def test_the_same_words(reference, hypothesis, lang):
    assert count_errors(reference, hypothesis, lang).edits == 0


def test_different_words_stay_different():
    assert count_errors("press two", "press three", "en").edits == 1
    assert count_errors("3.5", "35", "en").edits == 1
    assert join_compounds(["mail", "box"], ["mail", "boxes"]) == ["mail", "box"]


def test_languages_without_spaces_are_counted_by_characters():
    e = count_errors("\u4f60\u597d\uff0c\u4e16\u754c\u3002", "\u4f60\u597d\u4e16\u95f4", "zh")
    assert (e.edits, e.words, e.char_edits, e.chars) == (1, 4, 1, 4)


def test_a_reference_without_words():
    assert words_of("[music]", "en") == []
    assert count_errors("[music]", "la la", "en") is None
    assert count_errors("yes", "", "en").deleted == 1


def test_alignment_names_each_word():
    kinds = align("a b c", "a x c d")
    assert kinds == [("equal", "a", "a"), ("substitute", "b", "x"), ("equal", "c", "c"),
                     ("insert", "", "d")]
    assert align("a b", "") == [("delete", "a", ""), ("delete", "b", "")]


def some_errors():
    hypothesis = ["hello world", "hello word", "", "hello there world", "yellow world"] * 4
    return [count_errors("hello world", h, "en") for h in hypothesis]


def test_bootstrap_is_deterministic_and_holds_the_rate():
    found = some_errors()
    low, high = rate_interval(found, 500, seed=1)
    assert [low, high] == rate_interval(found, 500, seed=1) != rate_interval(found, 500, seed=2)
    assert low < error_rates(found)[0] < high
    assert mean_interval([2.0] * 5, 100, 0) == [2.0, 2.0]
