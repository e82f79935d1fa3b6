import math
import time

import pytest

from secateur.config.yaml12 import MAX_BYTES, parse_source, read_source
from secateur.errors import UserError


def value(text):
    source = parse_source(f"key: {text}", "f.yaml")
    assert not source.problems, source.problems
    return source.data["key"]


def refusal(text):
    with pytest.raises(UserError) as caught:
        parse_source(text, "f.yaml")
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-3", 1e-3),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-2", -2),
        ("+2", 2),
        ("1_000", 1000),
        ("8/255", 8 / 255),
        ("-1/4", -0.25),
        ("inf", math.inf),
        ("-.inf", -math.inf),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'8/255'", "8/255"),
        ("'off'", "off"),
        ('"1e-3"', "1e-3"),
        ("2026-01-01", "2026-01-01"),
        ("1:30", "1:30"),
        ("0x10", "0x10"),
        ("a/b", "a/b"),
        ("[1, {a: 2}]", [1, {"a": 2}]),
    ],
)
def test_values_mean_what_they_look_like(text, expected):
    assert value(text) == expected
    assert type(value(text)) is type(expected)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("off", "'off' is a boolean in YAML 1.1 and a word in YAML 1.2"),
        ("Yes", "'Yes' is a boolean in YAML 1.1"),
        (".nan", "NaN is not a number"),
        ("1/0", "divides by zero"),
        ("1e999", "too large"),
        ("010", "octal in YAML 1.1"),
        ("9" * 50, "a number of 50 digits"),
    ],
)
def test_values_with_two_meanings_or_none_are_refused(text, part):
    source = parse_source(f"a: 1\nkey: {text}\n", "f.yaml")
    assert len(source.problems) == 1
    assert part in str(source.problems[0])
    assert str(source.problems[0]).startswith("f.yaml:2: key: ")


def test_ambiguous_and_duplicate_keys_are_refused_with_both_lines():
    first, second = (str(p) for p in parse_source("on: 1\nb: 2\nb: 3\n", "f.yaml").problems)
    assert first.startswith("f.yaml:1: on: 'on' is a boolean in YAML 1.1 and a word in YAML 1.2")
    assert second == "f.yaml:3: b: set twice (first in line 2)"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: !!python/object/apply:os.system [ls]", "f.yaml:1: the tag"),
        ("a: 1\nb: !!str 3", "f.yaml:2: the tag"),
        ("a: [1, 2", "f.yaml:1: not YAML"),
        ("a: 1\n\tb: 2", "f.yaml:2: not YAML"),
        ("a: \x00", "not YAML"),
        ("a: 1\n---\nb: 2", "not YAML"),
        ("", "a study is a mapping"),
        ("[1, 2]", "a study is a mapping"),
        ("just words", "a study is a mapping"),
        ("a: &x [*x]", "aliases without end"),
        ("a: *nobody", "not YAML"),
        ("[" * 10_000, "nested deeper than 32 levels"),
    ],
)
def test_documents_that_are_no_plain_data_are_refused_with_their_line(text, part):
    assert part in refusal(text)


def test_an_alias_bomb_is_refused_quickly():
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    started = time.monotonic()
    assert "more than 20,000 values" in refusal("\n".join(lines))
    assert time.monotonic() - started < 5


def test_merge_keys_work_and_explicit_keys_win():
    source = parse_source(
        "base: &b {x: 1, y: 2}\nother: &o {y: 5, z: 6}\none: {<<: [*b, *o], x: 3}\n", "f.yaml"
    )
    assert source.data["one"] == {"x": 3, "y": 2, "z": 6}
    assert "needs a mapping" in str(parse_source("one: {<<: 3}", "f.yaml").problems[0])


def test_files_are_bounded_and_must_be_text(tmp_path):
    path = tmp_path / "s.yaml"
    with pytest.raises(UserError, match="there is no study file"):
        read_source(path)
    with pytest.raises(UserError, match="there is no study file"):
        read_source(tmp_path)
    path.write_bytes(b"a" * (MAX_BYTES + 1))
    with pytest.raises(UserError, match="at most 262,144"):
        read_source(path)
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(UserError, match="not UTF-8 text"):
        read_source(path)
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_source(path).data == {"a": 1}


def test_a_path_with_spaces_and_letters_of_other_alphabets_works(tmp_path):
    path = tmp_path / "étude ν.yaml"
    path.write_text("a: 1")
    assert read_source(path).location("a") == f"{path}:1"
