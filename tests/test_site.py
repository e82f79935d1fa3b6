"""The documentation site: every page is in its contents, and it is built without a warning."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import secateur

ROOT = Path(__file__).parent.parent
OF_THE_ROOT = {"index.md", "CONTRIBUTING.md", "CHANGELOG.md"}


def pages_of(part):
    if isinstance(part, str):
        return [part]
    values = part.values() if isinstance(part, dict) else part
    return [page for value in values for page in pages_of(value)]


def test_every_page_is_in_the_contents():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = pages_of(settings["nav"])
    written = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert len(listed) == len(set(listed))
    assert set(listed) == written | OF_THE_ROOT


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mkdocstrings") is None, reason="needs the [docs] extra")
def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    environment = {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "src"), "PATH": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "secateur.prune" in (tmp_path / "api" / "secateur" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", secateur.__all__)
def test_the_reference_has_every_public_name(name):
    value = getattr(secateur, name)
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "api").glob("*.md"))
    if not isinstance(value, ModuleType):
        assert name.startswith("__") or f"::: secateur.{name}\n" in text
    elif not hasattr(value, "__all__") and hasattr(value, "__path__"):
        shown = [
            part for part in vars(value).values() if getattr(part, "__module__", "").startswith("secateur")
        ]
        assert [part.__name__ for part in shown if f"::: secateur.{name}.{part.__name__}\n" not in text] == []
    else:
        assert f"::: secateur.{name}\n" in text
