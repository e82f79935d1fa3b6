import errno
import json
import os
import threading
from pathlib import Path

import pytest

from secateur.errors import ExitCode, UserError
from secateur.store import Store, claim
from secateur.store.study_file import differences, sealed_study
from secateur.study import cells as cells_module
from toy.numbers import record_of
from toy.study import SMALL, small_plan


def study(*overrides, **facts):
    return small_plan(SMALL, overrides=overrides, **facts).to_json()


def test_a_folder_is_made_with_its_parents(tmp_path):
    store = Store.create(tmp_path / "a" / "b", study())
    assert (store.root / "study.json").exists()
    assert len(store.cells) == 8
    assert Store.open(store.root).study["name"] == "toy"


def test_claiming_twice_changes_nothing(tmp_path):
    Store.create(tmp_path / "run", study())
    path = tmp_path / "run" / "study.json"
    before = path.read_bytes(), path.stat().st_mtime_ns
    Store.create(tmp_path / "run", study())
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_another_study_is_refused_with_every_setting_that_differs(tmp_path):
    Store.create(tmp_path / "run", study())
    with pytest.raises(UserError) as caught:
        Store.create(tmp_path / "run", study("attacks.ddn.steps=11", "sparsities=[0, 0.4]", "name=other"))
    assert caught.value.code == ExitCode.FOREIGN_FOLDER
    lines = caught.value.message.splitlines()
    assert "belongs to another study, 'toy'" in lines[0]
    assert [line.strip() for line in lines[1:]] == [
        "attacks.ddn.steps: 10 in the folder, 11 now",
        "name: toy in the folder, other now",
        "sparsities: [0, 0.5] in the folder, [0, 0.4] now",
    ]


def test_changed_data_is_named_as_the_difference(tmp_path):
    Store.create(tmp_path / "run", study())
    with pytest.raises(UserError, match=r"fingerprint: ffff.* in the folder, eeee.* now"):
        Store.create(tmp_path / "run", study(fingerprint="e" * 64))


def test_a_changed_science_version_is_named_as_the_difference(tmp_path, monkeypatch):
    Store.create(tmp_path / "run", study())
    monkeypatch.setattr(cells_module, "SCIENCE", {**cells_module.SCIENCE, "attack": 99})
    monkeypatch.setattr("secateur.study.planning.SCIENCE", {**cells_module.SCIENCE, "attack": 99})
    with pytest.raises(UserError, match=r"science\.attack: \d+ in the folder, 99 now"):
        Store.create(tmp_path / "run", study())


def test_long_differences_are_cut_short():
    many = {"config": {str(i): i for i in range(50)}}
    assert len(differences(many, {"config": {}})) == 50


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"holds other files \(thesis\.tex\)") as caught:
        Store.create(tmp_path, study())
    assert caught.value.code == ExitCode.BAD_INPUT
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_root_and_home_are_no_places_for_results(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for folder in ("/", "//", home, home / ".." / "home"):
        with pytest.raises(UserError, match="not suitable for results"):
            Store.create(folder, study())
    assert not list(home.iterdir())


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="is a file"):
        Store.create(tmp_path / "run", study())
    with pytest.raises(UserError, match="not a run folder"):
        Store.open(tmp_path / "run")


def test_a_folder_without_a_study_is_no_run_folder(tmp_path):
    with pytest.raises(UserError, match=r"it has no study\.json"):
        Store.open(tmp_path)
    with pytest.raises(UserError, match=r"it has no study\.json"):
        Store.open(tmp_path / "absent")


@pytest.mark.parametrize("text", ["", "{", "[]", "nonsense"])
def test_a_damaged_study_file_is_refused(tmp_path, text):
    Store.create(tmp_path / "run", study())
    (tmp_path / "run" / "study.json").write_text(text)
    with pytest.raises(UserError, match="is damaged"):
        Store.open(tmp_path / "run")


def drop_the_name(study):
    del study["name"]


def send_a_cell_outside(study):
    study["cells"][0]["id"] = "../../../etc"


def take_a_cell_apart(study):
    study["cells"][0] = {"id": study["cells"][0]["id"]}


def lose_the_cells(study):
    study["cells"] = {}


@pytest.mark.parametrize("change", [drop_the_name, send_a_cell_outside, take_a_cell_apart, lose_the_cells])
def test_a_forged_study_file_is_refused_although_its_seal_is_right(tmp_path, change):
    Store.create(tmp_path / "run", study())
    path = tmp_path / "run" / "study.json"
    forged = json.loads(path.read_text())
    change(forged)
    path.write_text(json.dumps(sealed_study(forged)))
    with pytest.raises(UserError, match="is damaged"):
        Store.open(tmp_path / "run")


def test_an_edited_study_file_is_refused(tmp_path):
    Store.create(tmp_path / "run", study())
    path = tmp_path / "run" / "study.json"
    path.write_text(path.read_text().replace('"toy"', '"toys"'))
    with pytest.raises(UserError, match="was edited after the study began") as caught:
        Store.open(tmp_path / "run")
    assert caught.value.code == ExitCode.FOREIGN_FOLDER


def test_a_newer_study_is_refused(tmp_path):
    Store.create(tmp_path / "run", study())
    path = tmp_path / "run" / "study.json"
    path.write_text(json.dumps(sealed_study({**json.loads(path.read_text()), "schema_version": 2})))
    with pytest.raises(UserError, match="newer secateur"):
        Store.open(tmp_path / "run")


def test_a_relative_folder_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Store.create("run", study()).root == Path("run")


def test_a_runner_that_comes_a_moment_later_joins_the_study(tmp_path, monkeypatch):
    """Between the first look and the second, another runner of the same study makes the folder its own."""
    refuse = claim._refuse_foreign_files

    def meanwhile(root):
        monkeypatch.setattr(claim, "_refuse_foreign_files", refuse)
        Store.create(root, study())
        refuse(root)

    monkeypatch.setattr(claim, "_refuse_foreign_files", meanwhile)
    assert Store.create(tmp_path / "run", study()).study == Store.open(tmp_path / "run").study


def test_a_runner_of_another_study_that_comes_a_moment_later_is_refused(tmp_path, monkeypatch):
    refuse = claim._refuse_foreign_files

    def meanwhile(root):
        monkeypatch.setattr(claim, "_refuse_foreign_files", refuse)
        Store.create(root, study())
        refuse(root)

    monkeypatch.setattr(claim, "_refuse_foreign_files", meanwhile)
    with pytest.raises(UserError, match="in the folder"):
        Store.create(tmp_path / "run", study(fingerprint="e" * 64))


def test_of_two_studies_that_start_at_once_exactly_one_gets_the_folder(tmp_path, monkeypatch):
    """Both have looked for a study.json before either writes one."""
    both, write = threading.Barrier(2), claim._create

    def together(path, content):
        both.wait()
        return write(path, content)

    monkeypatch.setattr(claim, "_create", together)
    got = {}

    def start(name):
        try:
            got[name] = Store.create(tmp_path / "run", study(f"name={name}", f"images={10 + len(name)}"))
        except UserError as error:
            got[name] = error

    threads = [threading.Thread(target=start, args=(name,)) for name in ("one", "other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stores = [name for name, each in got.items() if isinstance(each, Store)]
    refused = [each for each in got.values() if isinstance(each, UserError)]
    assert [error.code for error in refused] == [ExitCode.FOREIGN_FOLDER]
    assert stores == [Store.open(tmp_path / "run").study["name"]]


def test_a_file_system_without_links_is_claimed_all_the_same(tmp_path, monkeypatch):
    def no_links(source, target):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(claim.os, "link", no_links)
    Store.create(tmp_path / "run", study())
    assert not claim._create(tmp_path / "run" / "study.json", {})
    assert Store.open(tmp_path / "run").study["name"] == "toy"


def matching(root, content):
    return Store.matching(root, lambda: content, study_hash=content["study_hash"])


def test_the_content_of_a_study_is_asked_for_in_trouble_alone(tmp_path):
    store = Store.create(tmp_path / "run", study())
    same = Store.matching(store.root, lambda: pytest.fail("asked"), study_hash=study()["study_hash"])
    assert same.cells == store.cells
    with pytest.raises(UserError, match="belongs to another study"):
        matching(store.root, study(fingerprint="e" * 64))


@pytest.mark.parametrize("text", ["", '{"name": "to', "[]", '{"schema_version": 9}'])
def test_the_same_study_writes_a_damaged_study_file_anew_and_keeps_its_cells(tmp_path, text):
    store = Store.create(tmp_path / "run", study())
    store.commit(record_of(store.cells[0]))
    (store.root / "latency.json").write_text("{}")
    path = store.root / "study.json"
    whole = path.read_bytes()
    path.write_text(text)
    assert matching(store.root, study()).committed(store.cells[0].id)
    assert path.read_text() == text
    again = Store.create(store.root, study())
    assert path.read_bytes() == whole
    assert again.committed(store.cells[0].id)
    assert [each.read_text() for each in (store.root / "quarantine").iterdir()] == [text]
    assert "written anew" in again.notes()[0]["note"]


def test_another_study_does_not_take_over_a_folder_whose_study_file_is_damaged(tmp_path):
    store = Store.create(tmp_path / "run", study())
    store.commit(record_of(store.cells[0]))
    (store.root / "study.json").write_text("{")
    other = study(fingerprint="e" * 64)
    for claim_it in (Store.create, matching):
        with pytest.raises(UserError, match="1 of the cells in it are not of the study 'toy'"):
            claim_it(store.root, other)
    assert (store.root / "study.json").read_text() == "{"


def test_what_is_said_of_a_damaged_study_file_never_tells_to_throw_results_away(tmp_path):
    Store.create(tmp_path / "run", study())
    (tmp_path / "run" / "study.json").write_text("{")
    with pytest.raises(UserError) as caught:
        Store.open(tmp_path / "run")
    assert "finished cells are kept" in caught.value.hint
    assert "new folder" not in str(caught.value)
