"""Numbers are spelled once, for the hash and for people, and every text is what plain JSON gives."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.hashing import MAX_DEPTH, canonical, canonical_json, restore
from secateur.store.files import readable_json, spelled, strict_json
from secateur.store.seal import is_sealed, seal_of, sealed_text

NUMBERS = st.floats(allow_nan=False) | st.integers() | st.integers(-3, 3).map(float)
TEXTS = st.text(max_size=5) | st.sampled_from(["a,b", '"', "\\", "100%", "%s", "inf", "\u2028"])
EPOCHS = st.lists(st.fixed_dictionaries({"loss": NUMBERS | st.none(), "rate, %": NUMBERS | st.booleans()}))
LEAVES = NUMBERS | TEXTS | st.none() | st.booleans() | st.lists(NUMBERS) | st.lists(TEXTS) | EPOCHS
DATA = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=20)
OBJECTS = st.dictionaries(TEXTS, DATA, max_size=5)


def laid_out(value, indent=""):
    """Objects indented, lists of plain values in one line; every value by itself."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        lines = [f"{inner}{word(key)}: {laid_out(value[key], inner)}" for key in sorted(value)]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        lines = [f"{inner}{laid_out(item, inner)}" for item in value]
        return "[\n" + ",\n".join(lines) + f"\n{indent}]"
    return word(value)


def word(value):
    return json.dumps(value, ensure_ascii=False)


@given(OBJECTS)
def test_both_spellings_are_those_of_plain_json(data):
    plain = canonical(data)
    compact = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert spelled(plain) == (compact, laid_out(plain))
    assert canonical_json(data) == compact
    assert strict_json(compact.encode()) == json.loads(compact)


@given(OBJECTS)
def test_a_sealed_text_is_the_record_with_its_seal(data):
    body = {**data, "self_hash": "of an earlier text", "stage": "tune"}
    text = sealed_text(body)
    assert text == readable_json({**body, "self_hash": seal_of(body)})
    assert is_sealed(text.encode(), strict_json(text.encode()))


def test_nothing_is_sealed_that_no_reader_would_take():
    value = 0
    for _ in range(MAX_DEPTH):
        value = {"a": value}
    assert sealed_text(value)
    with pytest.raises(ValueError, match="nested deeper"):
        sealed_text({"a": value})
    for odd in (math.nan, [0.5, math.nan], {1, 2}):
        with pytest.raises(ValueError, match=r"canonical|plain"):
            sealed_text({"a": odd})


@pytest.mark.parametrize(
    ("values", "plain"),
    [
        ([0.5, 2.0, math.inf], [0.5, 2, "inf"]),
        ([0.5, -math.inf], [0.5, "-inf"]),
        ((0.5, 1e300), [0.5, 1e300]),
        ([2.0**53, -0.0, True], [2.0**53, 0, True]),
        ([np.float64(3), np.float64(0.5)], [3, 0.5]),
        ([None, 1.0, "a"], [None, 1, "a"]),
    ],
)
def test_a_list_is_as_canonical_as_each_of_its_values(values, plain):
    found = canonical(values)
    assert found == plain == [canonical(value) for value in values]
    assert [*map(type, found)] == [type(canonical(value)) for value in values]
    assert restore(found) == list(values)


def test_strict_json_reads_every_number_as_python_does():
    halfway = ["1.00000000000000011102230246251565", "2.2250738585072011e-308", "4.9406564584124654e-324"]
    for text in [*halfway, "1e400", "-0.0", "-0", "9007199254740993", "9007199254740993.0", "1E5", "9" * 400]:
        found, known = strict_json(text.encode()), json.loads(text)
        assert (repr(found), type(found)) == (repr(known), type(known))
