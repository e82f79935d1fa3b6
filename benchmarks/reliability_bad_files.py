"""Odd and damaged files of every kind that is read: each maker gives commands, and says what is in the file.

A maker prepares a folder once; what it returns draws one bad file and gives the command that reads it.
"""

import io
import json
import shutil

import torch
import yaml

import secateur
from fuzz.mutate import changed, damaged, sealed, written
from fuzz.test_data import FILES, PICTURES
from fuzz.test_plans import network
from fuzz.test_plans import sealed as sealed_plan
from fuzz.test_studies import STUDY
from report.synthetic import Grid, write
from report.test_build import SMALL
from secateur.models import build
from toy.study import FACTS

NET = ("-m", "resnet-tiny")


def configs(folder):
    """Study files with odd values, or damaged text."""
    folder.mkdir()
    data, path = yaml.safe_load(STUDY), folder / "study.yaml"

    def draw_one(draw):
        if draw.random() < 0.6:
            odd = changed(data, draw, draw.choice([1, 1, 2]))
            path.write_text(yaml.safe_dump(odd, allow_unicode=True), encoding="utf-8", errors="surrogatepass")
        else:
            path.write_bytes(damaged(STUDY.encode(), draw))
        return [draw.choice(["validate", "validate", "plan"]), str(path)], path.read_bytes()[-80:]

    return draw_one


def records(folder):
    """Run folders with an odd or damaged study.json or record, sealed again by a stranger."""
    write(folder, Grid(**SMALL))
    study = json.loads((folder / "study.json").read_text())
    facts = {**FACTS.to_json(), **study["facts"]}
    (folder / "study.json").write_bytes(written(sealed({**study, "facts": facts})))
    files = [folder / "study.json", *sorted(folder.glob("cells/*/*/record.json"))]
    before = {path: path.read_bytes() for path in files}
    cell = study["cells"][-1]["id"]
    verbs = (["status", str(folder)], ["show", str(folder), cell], ["gc", str(folder), "--dry-run"],
             ["compare", str(folder), str(folder)])  # fmt: skip

    def draw_one(draw):
        for path, content in before.items():
            path.write_bytes(content)
        path = draw.choice([files[0], draw.choice(files)])
        if draw.random() < 0.8:
            odd = changed(json.loads(before[path]), draw, draw.choice([1, 1, 2]))
            path.write_bytes(written(sealed(odd)))
        else:
            path.write_bytes(damaged(before[path], draw))
        return draw.choice(verbs), path.name

    return draw_one


def plans(folder):
    """Saved networks with an odd plan, sealed again, or damaged weights."""
    folder.mkdir()
    (folder / "net.py").write_text(
        "from torch import nn\n\n\ndef net():\n    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), "
        "nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))\n"
    )
    torch.manual_seed(0)
    model = torch.nn.Sequential(*network()[:-1], torch.nn.Linear(144, 10)).eval()
    secateur.prune(model, torch.rand(1, 1, 8, 8), sparsity=0.5)
    origin = {"model": f"{folder / 'net.py'}:net", "classes": 10, "input": [1, 1, 8, 8]}
    saved = secateur.save(model, folder / "pruned", origin=origin)
    plan, weights = saved / "plan.json", saved / "weights.safetensors"
    before = {path: path.read_bytes() for path in (plan, weights)}

    def draw_one(draw):
        for path, content in before.items():
            path.write_bytes(content)
        path = draw.choice([plan, plan, weights])
        if path == plan and draw.random() < 0.7:
            odd = changed(json.loads(before[plan]), draw, draw.choice([1, 1, 2]))
            plan.write_text(json.dumps(sealed_plan(odd)))
        else:
            path.write_bytes(damaged(before[path], draw))
        return ["evaluate", "-m", f"{folder / 'net.py'}:net", "-w", str(saved), "-d", "digits"], path.name

    return draw_one


def weights(folder):
    """Damaged files of weights, of torch and of safetensors."""
    from safetensors.torch import save

    folder.mkdir()
    state, packed = build("resnet-tiny", in_channels=1).state_dict(), io.BytesIO()
    torch.save(state, packed)
    contents = {"net.pt": packed.getvalue(), "net.safetensors": save(state)}

    def draw_one(draw):
        name = draw.choice(sorted(contents))
        (folder / name).write_bytes(damaged(contents[name], draw))
        return ["evaluate", *NET, "-w", str(folder / name), "-d", "digits"], name

    return draw_one


def images(folder):
    """Folders of images of which one is damaged."""
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        (folder / name / "whole.png").write_bytes(PICTURES["png"])

    def draw_one(draw):
        kind = draw.choice(sorted(PICTURES))
        for old in (folder / "a").glob("damaged*"):
            old.unlink()
        (folder / "a" / f"damaged.{kind}").write_bytes(damaged(PICTURES[kind], draw))
        return ["evaluate", *NET, "-d", f"folder:{folder}", "--resize", "8", "--classes", "10"], kind

    return draw_one


def archives(folder):
    """Arrays and archives of images with damaged bytes."""
    folder.mkdir()

    def draw_one(draw):
        name = draw.choice(sorted(FILES))
        spec, files = FILES[name]
        shutil.rmtree(folder)
        folder.mkdir()
        for path, content in files.items():
            (folder / path).write_bytes(content)
        path, content = next(iter(files.items()))
        (folder / path).write_bytes(damaged(content, draw))
        return ["evaluate", *NET, "-d", spec.format(folder), "--resize", "8"], path

    return draw_one


KINDS = {
    "study file": configs,
    "run folder": records,
    "saved network": plans,
    "weights": weights,
    "image": images,
    "archive": archives,
}
