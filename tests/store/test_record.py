"""What a record holds: written and read as the same bytes, older ones too; anything else is damage."""

import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secateur.errors import UserError
from secateur.hashing import canonical
from secateur.report.load import load
from secateur.store import AttackScience, Damaged, Record, Store, TrainScience
from secateur.store.files import readable_json
from secateur.store.record import sealed
from toy.numbers import PLAIN, numbers_of, record_of
from toy.study import small_plan

CELLS = {cell.stage: cell for cell in reversed(small_plan().cells)}
RESULTS = Path(__file__).parents[2] / "results"


def plain(stage):
    return sealed(canonical(record_of(CELLS[stage]).to_json()))


@pytest.mark.parametrize("stage", PLAIN)
def test_a_record_is_read_as_it_was_written(stage):
    record = Record.from_json(plain(stage))
    assert record.science == numbers_of(stage)
    assert canonical(record.to_json()) == plain(stage)


def test_a_field_that_an_older_record_lacks_is_absent_and_stays_so():
    older = Record.from_json(plain("train")).science
    assert isinstance(older, TrainScience)
    assert (older.best_epoch, older.says("best_epoch")) == (None, False)
    assert "best_epoch" not in older.to_json()
    newer = TrainScience.from_json({**PLAIN["train"], "best_epoch": None})
    assert newer.says("best_epoch")
    assert "best_epoch" in newer.to_json()


def test_what_is_not_known_is_kept():
    science = numbers_of("attack", yesterday={"a": [1]})
    assert science.to_json()["yesterday"] == {"a": [1]}


@pytest.mark.slow
@pytest.mark.parametrize("study", ["cifar10-seeds", "cifar10-small"])
def test_published_records_of_an_older_version_are_read_and_written_as_they_were(study):
    found = 0
    with tarfile.open(RESULTS / study / "records.tar.xz") as archive:
        for member in archive:
            if found < 40 and member.name.endswith("record.json"):
                raw = archive.extractfile(member).read()
                record = Record.from_json(json.loads(raw))
                assert readable_json(record.to_json()).encode() == raw
                found += 1
    assert found == 40


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"accuracy": 1.5}, "science.accuracy: input should be less than or equal to 1"),
        ({"accuracy": "0.5"}, "science.accuracy: input should be a valid number"),
        ({"targeted": 0}, "science.targeted: input should be a valid boolean"),
        (
            {"outcome": ["found", "maybe", "found"]},
            "science.outcome.1: input should be 'found', 'already_wrong'",
        ),
        ({"hashes": ["a"]}, "science.hashes has 1 entries for 3 images"),
        ({"distances": {}}, "science.distances.l0 has 0 entries for 3 images"),
        ({"sizes": [{"eps": 0.1, "found": [True]}]}, "science.sizes at 0.1 has 1 entries for 3 images"),
        ({"grade": "A+"}, "science.grade: input should be 'A', 'B', 'C' or 'X'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_one_sentence_names_the_key(change, said):
    data = plain("attack")
    with pytest.raises(Damaged) as damaged:
        Record.from_json({**data, "science": {**data["science"], **change}})
    assert str(damaged.value).startswith(said)


@pytest.mark.parametrize("missing", ["stage", "status", "science", "timing", "provenance", "axes"])
def test_a_missing_key_is_named(missing):
    data = {key: value for key, value in plain("train").items() if key != missing}
    with pytest.raises(Damaged, match=missing):
        Record.from_json(data)


def test_a_found_example_has_a_distance():
    far = {norm: [None, 0.0, None] for norm in ("l0", "l1", "l2", "linf")}
    with pytest.raises(Damaged, match="lacks the distance of an example that was found"):
        AttackScience.from_json({**PLAIN["attack"], "distances": far})


# Stands for a list in a list in a list ..., which Python could neither build nor write.
DEEP = "<nested>"
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.text(st.characters()),
    st.sampled_from(["\ud800", "../../etc/passwd", "inf", "x" * 5000, 1e308]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
    st.just(DEEP),
)


def paths(value, here=()):
    yield here
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*here, key))


@st.composite
def odd_records(draw):
    """A sound record of any stage in which one or two values were replaced or removed."""
    stage = draw(st.sampled_from(sorted(PLAIN)))
    return stage, spoiled(draw, plain(stage))


@st.composite
def odd_studies(draw):
    """The same of a study.json."""
    return spoiled(draw, canonical({**small_plan().to_json(), "schema_version": 1}))


def spoiled(draw, data):
    for _ in range(draw(st.integers(1, 2))):
        where = draw(st.sampled_from([path for path in paths(data) if path]))
        *above, last = where
        holder = data
        for step in above:
            holder = holder[step]
        if draw(st.booleans()) and isinstance(holder, dict):
            del holder[last]
        else:
            holder[last] = draw(JUNK)
    return data


def resealed(data):
    """With the right hash, where it can have one: only the shape is wrong then."""
    try:
        return sealed(data)
    except (ValueError, RecursionError):
        return {**data, "self_hash": "unknown"}


def written(path, data):
    path.write_text(json.dumps(data).replace(f'"{DEEP}"', "[" * 50_000 + "]" * 50_000))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    store = Store.create(tmp_path_factory.mktemp("odd") / "run", small_plan().to_json())
    for cell in CELLS.values():
        store.commit(record_of(cell))
    return store.root


@given(odd_records())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_odd_record_is_damage_in_one_sentence_and_never_a_traceback(run_folder, odd):
    stage, data = odd
    cell = CELLS[stage]
    path = run_folder / "cells" / cell.id[:2] / cell.id / "record.json"
    sound = path.read_bytes()
    try:
        written(path, resealed(data))
        store = Store.open(run_folder)
        record, damage = store.record(cell.id), store.damage(cell.id)
        assert (record is None) == bool(damage)
        assert "\n" not in damage
        damage.encode()
        study = load(run_folder)
        assert bool(damage) == (cell.id in {hole.id for hole in study.holes if hole.kind == "damaged"})
    finally:
        path.write_bytes(sound)


@given(odd_studies())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_odd_study_file_is_opened_or_refused_in_one_sentence(tmp_path_factory, odd):
    folder = tmp_path_factory.getbasetemp() / "odd-study"
    folder.mkdir(exist_ok=True)
    body = {key: value for key, value in odd.items() if key != "self_hash"}
    written(folder / "study.json", body | {"self_hash": resealed(body)["self_hash"]})
    said = ""
    try:
        Store.open(folder)
    except UserError as refused:
        said = str(refused)
    assert "\n" not in said
    said.encode()
