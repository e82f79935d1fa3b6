"""More networks to prune for `compatibility.py`: code beside the forward, other parts, several outputs."""

from dataclasses import replace

import torch
from compatibility_networks import Net, Task, built, convs, images, pooled, situation
from torch import nn
from torch.ao import quantization
from torch.nn import functional as F


class Block(nn.Module):
    """Convolution plus normalised shortcut; `deploy` merges both, and training adds noise to each channel."""

    def __init__(self, channels):
        super().__init__()
        self.in_channels, self.deployed = channels, False
        self.conv, self.bn = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)

    def forward(self, x):
        if self.training:
            x = x * (1 + 0.1 * torch.rand(len(x), self.in_channels, 1, 1))
        return (self.conv(x) + (0 if self.deployed else self.bn(x))).relu()

    @torch.no_grad()
    def deploy(self):
        kernel, every = torch.zeros(self.in_channels, self.in_channels, 3, 3), range(self.in_channels)
        scale = self.bn.weight / (self.bn.running_var + self.bn.eps).sqrt()
        kernel[every, every, 1, 1] = scale
        self.conv.weight += kernel
        self.conv.bias += self.bn.bias - self.bn.running_mean * scale
        self.deployed = True


@situation(
    "noise in training", "training code that states a width (noise for each of `in_channels`)", deploy=False
)
@situation(
    "deploy", "a block that merges its branches afterwards (`deploy`, re-parametrisation)", deploy=True
)
def stated(deploy):
    net = Net(
        lambda s, x: pooled(s, s.block(s.a(x))), a=nn.Conv2d(3, 16, 1), block=Block(16), f=nn.Linear(16, 5)
    )
    merge = (lambda model: None if model.block.deployed else model.block.deploy()) if deploy else None
    return built(net, [("a", "block.conv", "block.bn")], images, prepare=merge)


@situation("nothing above", "an output that is empty on the example (`masked_select` above a threshold)")
def empty():
    def run(s, x):
        y = s.f(s.b(s.a(x).relu()).relu()).sigmoid()
        return torch.masked_select(y, y > s.threshold)

    net = convs(run, parts={"f": nn.Conv2d(24, 4, 1)}).model
    net.threshold = 0.9999
    return Task(net, images, (("a",), ("b",)), prepare=lambda model: setattr(model, "threshold", -1.0))


LIBRARY = torch.library.Library("compatibility", "DEF")
LIBRARY.define("mirror(Tensor x) -> Tensor")
LIBRARY.impl("mirror", lambda x: x.flip(1).clone(), "CompositeExplicitAutograd")


@situation(
    "own operation", "an operation of one's own that reverses the channels, without a rule", rule=False
)
@situation(
    "own wrong rule", "an operation of one's own whose rule is wrong: it says that channels pass", rule=True
)
def unknown(rule):
    if rule:
        from secateur import graph

        graph.rule("compatibility::mirror")(lambda tracer, call: tracer.of(call.bind()["x"]))

    def run(s, x):
        return pooled(s, s.b(torch.ops.compatibility.mirror(s.a(x).relu())).relu())

    return convs(run, groups=[("b",)], trains=False, **({"theirs": None} if rule else {}))


@situation("counter", "a network that counts its calls in a buffer: tracing must not be seen there")
def counting():
    def run(s, x):
        s.calls.data += 1
        return pooled(s, s.b(s.a(x).relu()).relu())

    task = convs(run, unmoved="calls")
    task.model.register_buffer("calls", torch.zeros(1))
    return task


@situation("fake quantisation", "a network prepared for quantisation-aware training (`torch.ao`)")
def fake():
    task = convs(lambda s, x: pooled(s, s.b(torch.relu(s.a(x))).relu()))
    task.model.train().qconfig = quantization.get_default_qat_qconfig("fbgemm")
    quantization.prepare_qat(task.model, inplace=True)
    for _ in range(3):
        task.model(images(4))
    task.model.apply(quantization.disable_observer).eval()
    return task


@situation("branch", "a branch that the example does not take: its layer cannot be followed")
def branch():
    def run(s, x):
        h = s.a(x).relu()
        return pooled(s, (s.large(h) if x.shape[-1] > 16 else s.b(h)).relu())

    return convs(
        run,
        parts={"large": nn.Conv2d(16, 24, 5)},
        groups=[("a",), ("b", "large")],
        fresh=lambda n: images(n, 20),
        told="large",
        last=("f", "large"),
    )


@situation("keep a module", "a layer to be left alone, handed over as a module", kind="keep")
@situation(
    "subclass", "an example that is a subclass of `Tensor`, as fastai and MONAI have them", kind="subclass"
)
@situation("scripted", "one scripted part (`torch.jit.script`) in a plain network", kind="scripted")
@situation("taylor", "criterion `taylor`, the logits in a dict", kind="taylor")
def handed(kind):
    def run(s, x):
        y = pooled(s, F.leaky_relu(s.b(F.leaky_relu(s.a(s.first(x)))), 0.3))
        return {"logits": y, "loss": None} if kind == "taylor" else y

    first = torch.jit.script(nn.Conv2d(3, 3, 1)) if kind == "scripted" else nn.Identity()
    task = convs(run, parts={"first": first}, groups=[("b",)] if kind == "keep" else [("a",), ("b",)])
    settings = {}
    if kind == "keep":
        settings = {"ours": {"keep": [task.model.a]}, "last": ("f", "a")}
    if kind == "subclass":
        settings = {"example": images(2).as_subclass(type("Picture", (torch.Tensor,), {}))}
    if kind == "scripted":
        settings = {"last": ("f", "first")}
        for parameter in task.model.first.parameters():
            parameter.requires_grad = False
    if kind == "taylor":
        data = (images(16), torch.randint(0, 5, (16,)))
        settings = {
            "ours": {"criterion": "taylor", "batch": data, "logits": "logits"},
            "data": data,
            "theirs": {"output_transform": lambda output: output["logits"]},
        }
    return replace(task, **settings)


@situation("convgru", "a convolutional GRU cell, its state begins with a convolution", kind="convolution")
@situation("convgru, zeros", "a convolutional GRU cell, a state of zeros, 16 by a constant", kind="zeros")
@situation(
    "convgru, attribute",
    "a convolutional GRU cell, a state of zeros, as many as an attribute says",
    kind="zeros",
    stated=True,
)
@situation("convlstm, zeros", "a convolutional LSTM cell, two states of zeros, 16 by a constant", kind="lstm")
@situation(
    "convlstm, attribute",
    "a convolutional LSTM cell, two states of zeros, as many as an attribute says",
    kind="lstm",
    stated=True,
)
def cells(kind, stated=False):
    def run(s, video):
        h = torch.zeros(len(video), s.hidden if stated else 16, *video.shape[-2:], dtype=video.dtype)
        h, c = s.start(video[:, 0]) if kind == "convolution" else h, h
        for x in video.unbind(1):
            x = s.x(x).relu()
            if kind == "lstm":
                i, f, o, g = s.four(torch.cat([x, h], 1)).chunk(4, 1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
            else:
                reset, update = s.two(torch.cat([x, h], 1)).sigmoid().chunk(2, 1)
                h = (1 - update) * h + update * s.new(torch.cat([x, reset * h], 1)).tanh()
        return pooled(s, h)

    wide = {"two": 32, "four": 64, "new": 16}
    net = Net(
        run,
        x=nn.Conv2d(3, 12, 3, padding=1),
        start=nn.Conv2d(3, 16, 3, padding=1),
        f=nn.Linear(16, 5),
        **{name: nn.Conv2d(28, size, 3, padding=1) for name, size in wide.items()},
    )
    net.hidden = 16
    state = {"convolution": ("start", "new", "two@2"), "zeros": ("new", "two@2"), "lstm": ("four@4",)}[kind]
    return built(net, [("x",), state], lambda n: torch.rand(n, 3, 3, 6, 6))


@situation(
    "detector", "a detector: a list of images in, a list of dicts out, boxes chosen by score", detector=True
)
@situation("segmenter", "a segmenter: a dict of two maps, scaled to the size of the image", detector=False)
def vision(detector):
    def run(s, x):
        h = s.b(s.a(torch.stack(x) if detector else x).relu()).relu()
        maps = {"out": s.f(h), "aux": s.g(h)}
        if not detector:
            return {name: F.interpolate(map_, scale_factor=2, mode="bilinear") for name, map_ in maps.items()}
        scores, boxes = maps["aux"].flatten(2).softmax(1), maps["out"].flatten(2)
        found = []
        for score, box in zip(scores, boxes, strict=True):
            best, label = score.max(0)
            order = best.argsort(descending=True)[:5]
            found.append({"boxes": box.t()[order], "scores": best[order], "labels": label[order]})
        return found

    def inputs(n):
        return (list(images(n)),) if detector else images(n)

    net = Net(
        run, a=nn.Conv2d(3, 16, 3), b=nn.Conv2d(16, 24, 3), f=nn.Conv2d(24, 4, 1), g=nn.Conv2d(24, 6, 1)
    )
    return built(net, [("a",), ("b",)], inputs, last=("f", "g"))
