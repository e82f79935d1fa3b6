import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.hashing import canonical, canonical_json, derive_seed, digest, restore

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=20,
)


@pytest.mark.slow
@given(PLAIN)
def test_canonical_json_is_valid_and_stable(value):
    text = canonical_json(value)
    assert canonical_json(json.loads(text)) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_exact(value):
    assert json.loads(canonical_json(value)) == value


def test_equal_settings_have_one_spelling():
    assert digest({"a": 1, "b": (0.5, 2.0)}) == digest({"b": [0.5, 2], "a": 1.0})
    assert digest({"a": 1}) != digest({"a": True})
    assert digest({"a": 0.1}) != digest({"a": "0.1"})
    assert canonical_json(-0.0) == "0"


def test_infinity_is_spelled_and_nan_is_refused():
    assert canonical_json({"n": math.inf, "m": -math.inf}) == '{"m":"-inf","n":"inf"}'
    assert restore(canonical({"n": math.inf, "m": [-math.inf, "info"]})) == {
        "n": math.inf,
        "m": [-math.inf, "info"],
    }
    with pytest.raises(ValueError, match="NaN"):
        canonical_json([math.nan])
    with pytest.raises(ValueError, match="not plain data"):
        canonical_json({"a": object()})


def test_a_known_value_never_changes():
    """Ids of stored cells depend on this spelling: if this test fails, every run folder is orphaned."""
    assert canonical_json({"b": [1.0, 0.1, None], "a": "é"}) == '{"a":"é","b":[1,0.1,null]}'
    assert digest({"b": [1.0, 0.1, None], "a": "é"}).startswith("02c8256276f77f59")
    assert derive_seed("cell", "abc", 3) == 1_942_588_059_913_721_509


def test_seeds_differ_and_fit_a_generator():
    seeds = {derive_seed("a", i) for i in range(1000)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
