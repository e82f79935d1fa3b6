import pytest

from secateur.text import counted, did_you_mean, duration, first_few, first_line, listed, nearest


@pytest.mark.parametrize(
    ("words", "said"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_words_in_a_row(words, said):
    assert listed(words) == said


def test_a_long_list_is_cut():
    assert first_few(["a", "b"], 2) == "a, b"
    assert first_few(["a", "b", "c"], 2) == "a, b and 1 more"


def test_regular_plurals():
    assert [counted(n, "job") for n in (0, 1, 2)] == ["0 jobs", "1 job", "2 jobs"]


def test_a_word_like_none_gets_the_other_hint():
    assert nearest("zzz", ["resnet18"]) == ""
    assert did_you_mean("zzz", ["resnet18"], otherwise="see ls") == "see ls"


def test_an_error_without_a_message_has_a_first_line():
    assert first_line(ValueError(" \n")) == "no message"
    assert first_line(ValueError(), "none") == "none"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "unknown"),
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.9, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text
