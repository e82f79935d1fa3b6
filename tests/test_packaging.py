"""What the package promises: extras that are used, types, a README whose links hold on a package index."""

import ast
import functools
import re
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from zipfile import ZipFile

import pytest

from secateur.cli import doctor

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {
    extra: [re.match(r"[A-Za-z0-9_.-]+", line)[0] for line in lines]
    for extra, lines in PROJECT["optional-dependencies"].items()
}
# What is called another name where it is imported, or is called by a program and not by an import.
MODULES = {"PyYAML": "yaml", "scikit-learn": "sklearn", "pillow": "PIL"}
PROGRAMS = {
    "ruff": ("Makefile", "ruff check"),
    "mypy": ("Makefile", "/mypy"),
    "pytest-xdist": ("Makefile", "-n auto"),
    "pre-commit": (".pre-commit-config.yaml", "repos:"),
    "mkdocs-material": ("mkdocs.yml", "name: material"),
    "mkdocstrings": ("mkdocs.yml", "- mkdocstrings:"),
    "types-PyYAML": ("src/secateur/config/yaml12.py", "import yaml"),
}


# What installs tools for the project, and nothing that the package imports.
TOOLS = ("dev", "docs")
# Functions that import by name, and a table of packages that one of them is given.
BY_NAME = ("import_module", "importorskip", "needed", "_package")
TABLES = ("_ONNX",)


@functools.cache
def imported(folder):
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
            elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in BY_NAME:
                found |= {
                    str(part.value).split(".")[0] for part in node.args if isinstance(part, ast.Constant)
                }
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in TABLES:
                found |= {str(part.value) for part in ast.walk(node.value) if isinstance(part, ast.Constant)}
    return found


def module(package):
    return MODULES.get(package, package)


@pytest.mark.parametrize(
    "package", [re.match(r"[A-Za-z0-9_.-]+", line)[0] for line in PROJECT["dependencies"]]
)
def test_every_dependency_is_imported(package):
    assert module(package) in imported("src")


@pytest.mark.parametrize(
    ("extra", "package"), [(e, p) for e, ps in EXTRAS.items() if e not in TOOLS for p in ps]
)
def test_every_extra_is_imported_by_the_package(extra, package):
    assert module(package) in imported("src"), f"[{extra}] installs {package}, which nothing imports"


@pytest.mark.parametrize("package", [package for extra in TOOLS for package in EXTRAS[extra]])
def test_every_tool_of_development_is_used(package):
    if package in PROGRAMS:
        file, words = PROGRAMS[package]
        assert words in (ROOT / file).read_text(encoding="utf-8")
    else:
        assert module(package) in imported("tests") | imported("src")


def test_doctor_looks_for_the_extras_that_there_are():
    wanted = {extra: tuple(packages) for extra, packages in EXTRAS.items() if extra not in TOOLS}
    assert wanted == doctor._EXTRAS


@pytest.mark.parametrize(
    "page", ["README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_pages_name_extras_that_there_are(page):
    named = re.findall(r"secateur\[([a-z,]+)\]", (ROOT / page).read_text(encoding="utf-8"))
    assert {extra for names in named for extra in names.split(",")} <= set(EXTRAS)


def test_the_package_says_that_it_has_types():
    assert (ROOT / "src" / "secateur" / "py.typed").exists()


@pytest.fixture
def hook():
    pytest.importorskip("hatchling")
    spec = spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    found = module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_the_wheel_has_the_mark_of_types_and_the_readme_of_an_index(hook, tmp_path):
    from hatchling.builders.wheel import WheelBuilder

    wheel = ZipFile(next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path))))
    assert "secateur/py.typed" in wheel.namelist()
    (metadata,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    text = wheel.read(metadata).decode()
    assert "](docs/" not in text
    shown = re.findall(r"^Project-URL: ([^,\n]+), (https://\S+)$", text, re.M)
    assert dict(shown) == PROJECT["urls"]
    assert len(shown) > 1


def test_links_of_the_readme_hold_on_a_package_index(hook):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    plain = hook.for_an_index(text, None)
    assert re.findall(r"\]\((?!https?://|#)[^)]*\)", re.sub(r"`[^`\n]*`", "", plain)) == []
    linked = hook.for_an_index(text, "https://example.org/secateur/")
    assert "(https://example.org/secateur/blob/main/docs/running.md)" in linked
    assert "](https://example.org/secateur/raw/main/docs/images/" in linked


def test_code_and_absolute_links_stay_as_they_are(hook):
    text = "`[a](b)` [x](https://y.z) [here](#part)\n```\n[c](d)\n```\n![p](q.png) [words](docs/a.md#b)\n"
    assert hook.for_an_index(text, None) == text.replace("![p](q.png)", "").replace(
        "[words](docs/a.md#b)", "words"
    )
