import subprocess
import sys

import pytest

VERBS = (
    *("init", "validate", "plan", "run", "report", "status", "worker", "schema"),
    *("graph", "prune", "attack", "ls", "doctor"),
)


def test_help_names_every_verb(secateur):
    said = secateur("--help")
    assert said.code == 0
    assert all(verb in said.out for verb in VERBS)


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(secateur, verb):
    said = secateur(verb, "--help")
    assert said.code == 0
    assert "Usage" in said.out


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["ls"]])
def test_help_and_listings_never_wait_for_torch(arguments):
    script = (
        "import sys\nfrom secateur.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_version_is_that_of_the_package(secateur):
    import secateur as package

    assert secateur("--version").out.strip() == package.__version__


def test_an_unknown_option_is_a_usage_error(secateur):
    assert secateur("prune", "--sparsty", "0.5").code == 2


def test_ls_tells_norms_and_papers_and_speaks_json(secateur):
    said = secateur("ls", "attacks", "--json")
    rows = {row["name"]: row for row in said.json["attacks"]}
    assert rows["fmn"]["norms"] == "0, 1, 2, inf, L0-pixels"
    assert "2019" in rows["ddn"]["summary"]


def test_ls_of_something_else_names_the_lists(secateur):
    said = secateur("ls", "atacks")
    assert said.code == 2
    assert "attacks" in said.err


def test_doctor_prunes_and_attacks_a_small_network(secateur):
    said = secateur("doctor")
    assert said.code == 0
    assert "all well" in said.out


def test_published_weights_are_listed_with_their_tags_and_accuracies(secateur):
    rows = {row["name"]: row for row in secateur("ls", "checkpoints", "--json").json["checkpoints"]}
    assert rows["Linf/Standard"]["robust"] == "no"
    assert rows["L2/Wang2023Better_WRN-28-10"]["robust"] == "yes"
    wanted = ("clean_accuracy", "robust_accuracy", "arch")
    assert [rows["Linf/Sehwag2021Proxy_R18"][key] for key in wanted] == ["84.59", "55.54", "resnet18"]


# What a reader of the list of attacks can use; anything else that a row carries is for the program.
LISTED = {
    "name",
    "summary",
    "cost",
    "kind",
    "norms",
    "random",
    "study",
    "targeted",
    "label",
    "paper",
    "bibtex",
}


def test_a_list_shows_no_fact_that_is_for_the_program(secateur):
    for kind, rows in secateur("ls", "--json").json.items():
        for row in rows:
            assert not any(" at 0x" in value or "Rule(" in value for value in row.values()), row
            assert kind != "attacks" or set(row) <= LISTED
