"""The Python of the documentation runs. Pages that a test of their own runs are not listed here.

A page shows what matters and leaves out what its reader has: the names in ``given``.
"""

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import secateur
from whole import TINY

DOCS = Path(__file__).parent.parent / "docs"
ELSEWHERE = {
    "attacking.md": "tests/cli/test_plugin_option.py runs halfway.py",
    "explanation.md": "tests/test_explanation.py",
    "howto.md": "tests/test_howto.py",
    "tutorial.md": "tests/test_tutorial.py",
}
PAGES = ("checking", "criteria", "data", "export", "models", "pruning", "reports", "running", "training")


def blocks(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)


def given(page):
    """What the reader of a page has at hand: networks, images, an optimiser, weights, folders of runs."""
    images = secateur.data.load("digits:split").take(range(16))
    model, dense = (secateur.models.resolve("shipped:digits-plain") for _ in range(2))
    names = {"secateur": secateur, "torch": torch, "model": model, "dense": dense, "images": images.x}
    if page == "export":
        secateur.prune(model, images.x, sparsity=0.5)
    if page == "models":
        save_file(secateur.models.build("resnet18", num_classes=10).state_dict(), "weights.safetensors")
    if page == "pruning":
        names["plan"] = secateur.plan(secateur.trace(model, images.x), sparsity=0.5)
        names["optimizer"] = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        names["average"] = torch.optim.swa_utils.AveragedModel(model)
    if page == "training":
        names["splits"] = secateur.data.load_splits("digits", generator=torch.Generator().manual_seed(0))
    if page == "reports":
        secateur.run("studies/demo.yaml", out="runs/demo")
        for copy in ("before", "after"):
            shutil.copytree("runs/demo", f"runs/{copy}")
    return names


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("studies").mkdir()
    Path("studies/demo.yaml").write_text(TINY, encoding="utf-8")


def test_every_page_with_python_is_run():
    pages = {path.name for path in DOCS.glob("*.md") if blocks(path.name)}
    assert pages == {f"{page}.md" for page in PAGES} | set(ELSEWHERE)


# Their blocks have nothing to do with each other: a network is pruned once.
APART = ("pruning",)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs(here, page, capsys):
    if page == "export":
        pytest.importorskip("onnxruntime")
    names = given(page)
    for block in blocks(f"{page}.md"):
        exec(compile(block, page, "exec"), names)
        if page == "export":
            names["images"] = torch.as_tensor(names["images"]).numpy()
        if page in APART:
            names = given(page)


def test_a_page_that_names_what_is_not_there_is_caught(here):
    with pytest.raises(AttributeError):
        exec("secateur.atack(model, images)", given("checking"))
