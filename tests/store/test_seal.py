"""The seal of a record is compared from its text, with the answer that spelling it again would give."""

import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.hashing import MAX_DEPTH
from secateur.store import seal
from secateur.store.files import readable_json, strict_json
from secateur.store.seal import is_sealed, seal_of

RESULTS = Path(__file__).parents[2] / "results"
BODY = {
    "id": "ab",
    "note": 'it said: "no", [twice]\n',
    "science": {"distances": [0.5, None, 1e-7], "empty": {}},
    "stage": "ä",
}


def text_of(body):
    return readable_json({**body, "self_hash": seal_of(body)}).encode()


def without_text(monkeypatch):
    """From here on, an answer has to come from the text."""
    monkeypatch.setattr(seal, "digest", lambda value: pytest.fail("the record was spelled again"))


@pytest.mark.slow
@pytest.mark.parametrize("study", ["cifar10-seeds", "cifar10-small"])
def test_published_records_are_checked_without_spelling_them_again(study, monkeypatch):
    without_text(monkeypatch)
    found = 0
    with tarfile.open(RESULTS / study / "records.tar.xz") as archive:
        for member in archive:
            if found < 60 and member.name.endswith("record.json"):
                raw = archive.extractfile(member).read()
                assert is_sealed(raw, strict_json(raw))
                found += 1
    assert found == 60


def test_other_spellings_of_the_same_record_are_sealed_too():
    data = json.loads(text_of(BODY))
    for raw in (
        json.dumps(data).encode(),
        json.dumps(data, indent=1, sort_keys=True).encode(),
        text_of(BODY).replace(b"0.5", b"5e-1"),
        text_of(BODY).replace("ä".encode(), b"\\u00e4"),
    ):
        assert is_sealed(raw, strict_json(raw))


@given(place=st.integers(0, 2**20), byte=st.integers(0, 255), escaped=st.booleans())
def test_a_changed_byte_is_noticed_where_it_changes_the_record(place, byte, escaped):
    raw = bytearray(text_of(BODY if escaped else {**BODY, "note": "plain"}))
    raw[place % len(raw)] = byte
    try:
        data = strict_json(bytes(raw))
        answer = seal_of(data) == data.get("self_hash")
    except ValueError:
        return
    assert is_sealed(bytes(raw), data) == answer


def test_text_with_a_second_seal_is_judged_by_what_was_parsed():
    raw = text_of(BODY)
    line = next(line for line in raw.split(b"\n") if b"self_hash" in line)
    twice = raw.replace(line, line + b"\n" + line)
    assert is_sealed(twice, strict_json(twice))
    forged = raw.replace(line, line + b"\n" + line.replace(b'": "', b'": "0', 1))
    assert not is_sealed(forged, strict_json(forged))


def test_a_record_nested_too_deeply_is_refused_with_a_right_hash_too():
    def nested(depth):
        value = 0
        for _ in range(depth):
            value = {"a": value}
        return value

    assert is_sealed(text_of(nested(MAX_DEPTH)), json.loads(text_of(nested(MAX_DEPTH))))
    deep = nested(MAX_DEPTH + 1)
    compact = json.dumps(deep, separators=(",", ":")).encode()
    seal_text = seal.sha256_hex(compact)
    raw = compact.replace(b'{"a"', b'{\n  "self_hash": "%s",\n"a"' % seal_text.encode(), 1)
    with pytest.raises(ValueError, match="nested deeper"):
        is_sealed(raw, json.loads(raw))
