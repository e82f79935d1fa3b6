"""Forms of networks, images, labels and settings: more of what `compatibility.py` gives to the attacks."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from compatibility_attacks import CLASSES, Net, enter, remade, threat, wrapped
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

OURS = ("secateur",)


def first(dtype):
    def call(t):
        scale = nn.Parameter(torch.ones(1, dtype=dtype), requires_grad=False)
        return Net(lambda s, x: s.net(x) * s.scale.float(), scale=scale, net=t.model.net).eval()

    return wrapped(call)


threat("whole first", "a first parameter that is a whole number", dtype=torch.int64)(first)
threat("double first", "a first parameter in float64, the others in float32", dtype=torch.float64)(first)


def forms(kind):
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, CLASSES)).eval()

    def change(t):
        batch = {0: torch.export.Dim("batch", min=1, max=4096)}
        makers = {
            "export": lambda: torch.export.export(net, (t.x[:2],), dynamic_shapes=(batch,)).module(),
            "freeze": lambda: torch.jit.freeze(torch.jit.script(net)),
            "script": lambda: torch.jit.script(net),
            "fx": lambda: torch.fx.symbolic_trace(net),
            "call": lambda: lambda images: net(images),
            "double": lambda: net.double(),
            "half": lambda: net.half(),
        }
        cast = {"double": torch.float64, "half": torch.float16}.get(kind)
        shown = {"shown": (t.x.to(cast), t.y)} if cast else {}
        return {"model": makers[kind](), **shown}

    return remade(change, net=net)


for kind, text in {
    "export": "a network loaded by `torch.export`",
    "freeze": "a frozen scripted network (`torch.jit.freeze`)",
    "script": "a scripted network (`torch.jit.script`)",
    "fx": "a traced network (`torch.fx`)",
    "call": "a plain function instead of a module",
    "double": "a network and images in float64",
    "half": "a network and images in float16",
}.items():
    threat(kind, text, kind=kind)(forms)


def restless(noise, **settings):
    """Dropout or noise in every forward; whether an image is fooled is asked of the network without them."""

    def call(t):
        def run(s, x):
            if noise:
                return s.net(x) + 0.02 * torch.randn(len(x), CLASSES)
            s.train()
            return s.drop(s.net(x))

        return {"model": Net(run, net=t.model.net, drop=nn.Dropout(0.02)).eval(), "judge": t.model}

    return remade(call, **settings)


MODE = "a network that switches itself to training mode (dropout; verified without it)"
NOISE = "a network that adds noise to its logits (verified without it)"
MEAN = {"average": 16, "only": ("secateur", "foolbox", "torchattacks"), "ours": {"eot_samples": 16}}
threat("own mode", MODE, ("pgd",), noise=False)(restless)
threat("noise", NOISE, ("pgd",), noise=True)(restless)
threat("noise, mean", f"{NOISE[:-1]}; the tool takes the mean of 16 forwards)", ("pgd",), noise=True, **MEAN)(
    restless
)


enter(
    "targeted",
    "a targeted attack (which images can reach the class: linear programming)",
    targeted=True,
    classes=3,
)
enter(
    "one target",
    "one wanted class for all images, as a number",
    ("pgd",),
    target=1,
    classes=3,
    ours={"targets": 1},
    only=OURS,
)
enter("mask", "a mask: only these pixels may change", masked=True, only=OURS)
enter("mislabelled", "images of which half are wrong from the start", mislabelled=True)
enter("bounds -1..1", "images in [−1, 1]", f=lambda x: (x + 1) / 2, bounds=(-1.0, 1.0))
enter("bounds 0..255", "images in [0, 255]", f=lambda x: x / 255, bounds=(0.0, 255.0))
enter("table", "a table [N, 20]", shape=(20,))
enter("signal", "signals [N, 2, 32]", shape=(2, 32))
enter("volume", "volumes [N, 1, 4, 4, 4]", shape=(1, 4, 4, 4))
enter("no_grad", "a caller under `torch.no_grad()`", context=torch.no_grad)
enter("inference_mode", "a caller under `torch.inference_mode()`", context=torch.inference_mode)
enter(
    "normalised",
    "a network that wants normalised images; mean and deviation are told to the tool",
    f=lambda x: (x - 0.3) / 0.35,
    before=lambda x: x,
    normal=(0.3, 0.35),
    only=("secateur", "foolbox", "torchattacks", "ART"),
)


class Rows:
    """A data set as torchvision's: rows by number."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], int(self.y[index])


def columns(x, y):
    """A data set as Hugging Face's: rows by name."""
    return [{"image": image, "label": int(label)} for image, label in zip(x, y, strict=True)]


def given(shown, only=None):
    fields = {"only": only} if only else {}
    return remade(lambda t: {"shown": shown(t.x, t.y), **fields})


for name, sentence, show in (
    ("pair", "a pair `(x, y)`", lambda x, y: (x, y)),
    ("tensor dataset", "a `TensorDataset`", TensorDataset),
    ("loader", "a `DataLoader` instead of tensors", lambda x, y: DataLoader(TensorDataset(x, y), 8)),
    ("rows", "a data set with `__getitem__`, as torchvision's", Rows),
    ("columns", "rows with the names `image` and `label`, as Hugging Face's", columns),
):
    threat(name, sentence, ("pgd",), shown=show, only=OURS)(given)

for name, sentence, show in (
    ("numpy", "NumPy arrays", lambda x, y: (x.numpy(), y.numpy())),
    ("int32", "labels of type int32", lambda x, y: (x, y.int())),
    ("uint8", "labels of type uint8", lambda x, y: (x, y.byte())),
    ("one-hot", "one-hot labels", lambda x, y: (x, torch.eye(CLASSES)[y])),
):
    threat(name, sentence, shown=show)(given)


def bright(t):
    top = t.x.flatten(1).argmax(1)
    x = t.x.flatten(1).scatter(1, top[:, None], 1 + 2**-23).view_as(t.x)
    return {"shown": (x, t.y), "can": t.can & False}


def changed(name, sentence, change, **settings):
    threat(name, sentence, ("pgd",), change=change, **settings)(remade)


changed("rounded up", "a pixel of 1.0000001; no claim is to be wrong", bright)
changed("eps list", "a list of ε, the larger counts", lambda t: {"size": [0.5 * t.eps, t.eps]}, only=OURS)
changed("numpy eps", "ε as a NumPy number", lambda t: {"size": np.float32(t.eps)})
changed("eps 0", "ε = 0, as in a sweep: no image can be fooled", lambda t: {"eps": 0.0, "can": t.can & False})
changed(
    "eps 8",
    "ε = 8 where 8/255 is meant, images in [0, 1]",
    lambda t: {"eps": 8.0},
    refuse="takes ε = 8 on images in [0, 1]",
)
changed(
    "labels from 1",
    "labels that begin at 1",
    lambda t: {"shown": (t.x, t.y + 1)},
    refuse="counts classes that the network does not have",
)
changed(
    "normalised images",
    "images that are normalised already, while bounds say [0, 1]",
    lambda t: {"shown": ((t.x - 0.5) / 0.2, t.y)},
    refuse="attacks values outside [0, 1] as images",
)
enter("norm Linf", "the norm written `Linf`", ("pgd",), ours={"norm": "Linf"}, only=OURS)


def misfit():
    def change(t):
        return {"model": nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, CLASSES)).eval()}

    return remade(change, refuse="runs")


threat("misfit", "a colour network and grey images", ("pgd",))(misfit)


def beyond():
    """An attack of the user's own that ignores ε; whatever it claims is none."""

    def grey(model, x, y, *, eps=8 / 255, bounds=(0.0, 1.0)):
        return torch.full_like(x, 0.5)

    def change(t):
        from secateur.registry import ATTACKS

        ATTACKS.register("grey", grey, "ignores ε", norms=(float("inf"),), kind="fixed-eps")
        return {"can": t.can & False, "eps": 0.001, "ours": {"name": "grey"}, "only": OURS}

    return remade(change)


threat("beyond", "an attack of one's own that goes beyond ε", ("pgd",))(beyond)
# ---------------------------------------------------------------- what only we have: studies and folders

STUDY = """name: s
data: digits
models: {{a: {{arch: resnet-tiny, recipe: {{epochs: 1}}}}}}
criteria: [l1]
sparsities: [0]
attacks:
{attacks}
"""
BAD = ("eps: 0", "eps: -0.1", "eps: 8", "loss: foo", "step: -1", "random_start: 3", "steps: 0")


def validated(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "s.yaml")
        path.write_text(text)
        call = [sys.executable, "-m", "secateur", "validate", str(path)]
        done = subprocess.run(call, capture_output=True, text=True, env=os.environ, check=False)
    return done.returncode, done.stdout + done.stderr


def bad_settings():
    lines = [f"  a{number}: {{attack: pgd, norm: inf, {bad}}}" for number, bad in enumerate(BAD)]
    code, said = validated(STUDY.format(attacks="\n".join(lines)))
    seen = sum(f"a{number}" in said for number in range(len(BAD)))
    return (
        ("works", "") if code == 2 and seen == len(BAD) else ("wrong", f"names {seen} of {len(BAD)} mistakes")
    )


def deep_pictures():
    from PIL import Image

    from secateur import data

    with tempfile.TemporaryDirectory() as folder:
        drawn = np.random.default_rng(0).integers(0, 65536, (4, 16, 16)).astype(np.uint16)
        for number, picture in enumerate(drawn):
            home = Path(folder, "ab"[number % 2])
            home.mkdir(exist_ok=True)
            Image.fromarray(picture).save(home / f"{number}.png")
        found = data.load(f"folder:{folder}")
    off = abs(float(found.x.double().mean()) - float(drawn.mean()) / 65535)
    return ("works", "") if off < 1e-4 else ("wrong", f"the mean pixel is off by {off:.2g}")


ALONE = {
    "bad settings": ("seven attack settings out of range in a study: `validate` names all", bad_settings),
    "16 bits": ("a folder of 16-bit grey pictures keeps its brightness", deep_pictures),
}
