"""Features that become images: the convolution or normalisation behind a reshape says what a channel is."""

import pytest
import torch
from torch import Tensor, nn

import secateur


class Decoder(nn.Module):
    """Features of a linear layer as an image, in the ways that generators and decoders are written."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.width = form, 8
        self.linear = nn.Linear(5, 8 * 16)
        volume, line = form == "volume", form == "line"
        norm = {"volume": nn.BatchNorm3d, "line": nn.BatchNorm1d, "norm": nn.BatchNorm2d}.get(form)
        self.norm = norm(8) if norm else nn.Identity()
        if form == "channels last norm":
            self.norm = nn.LayerNorm(8)
        if form == "instance norm":
            self.norm = nn.InstanceNorm2d(8, affine=True)
        self.last = (
            nn.Conv3d(8, 3, 1) if volume else nn.Conv1d(8, 3, 3) if line else nn.ConvTranspose2d(8, 3, 2)
        )
        if form == "average":
            self.last = nn.Linear(8, 3)
        self.unflatten = nn.Unflatten(1, (8, 4, 4))

    def forward(self, z: Tensor) -> Tensor:
        h = self.linear(z)
        match self.form:
            case "norm":
                h = self.norm(h.view(len(z), -1, 4, 4)).relu()
            case "instance norm":
                h = self.norm(h.view(len(z), -1, 4, 4))
            case "channels last norm":
                h = self.norm(h.view(len(z), -1, 4, 4).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            case "average":
                h = h.view(len(z), -1, 4, 4).relu().mean((2, 3))
            case "pool":
                h = nn.functional.interpolate(h.view(len(z), -1, 4, 4), scale_factor=2)
            case "attribute":
                h = h.view(-1, self.width, 4, 4).relu()
            case "module":
                h = self.unflatten(h)
            case "channels last":
                h = h.view(len(z), 4, 4, -1).transpose(2, 3).transpose(1, 2)
            case "line":
                h = self.norm(h.unflatten(1, (-1, 16)))
            case "volume":
                h = self.norm(h.view(len(z), -1, 4, 2, 2))
            case "tokens":
                h = self.linear(z[:, None].expand(-1, 2, -1)).view(2 * len(z), -1, 4, 4)
        return self.last(h)


FORMS = [
    "instance norm",
    "channels last norm",
    "average",
    *["norm", "pool", "attribute", "module", "channels last", "line", "volume", "tokens"],
]


@pytest.mark.parametrize("form", FORMS)
def test_features_are_pruned_by_the_channels_of_the_image(form):
    model = Decoder(form).eval()
    report = secateur.prune(model, torch.rand(3, 5), sparsity=0.5)
    assert (report.verified, report.notes) == (True, ())
    assert model.linear.out_features == 4 * 16
    assert model(torch.rand(2, 5)).shape[:2] == (4 if form == "tokens" else 2, 3)


def test_a_row_of_heads_in_front_of_no_convolution_keeps_all_its_heads():
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.last = nn.Linear(5, 12), nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.linear(x).view(len(x), 3, -1).softmax(1).flatten(1))

    model = Heads().eval()
    secateur.prune(model, torch.rand(2, 5), sparsity=0.5)
    assert model.linear.out_features == 6


def test_a_width_written_into_the_code_is_left_and_named():
    class Literal(Decoder):
        def forward(self, z: Tensor) -> Tensor:
            return self.last(self.linear(z).view(-1, 8, 4, 4))

    with pytest.raises(secateur.UserError, match=r"view in the model .*test_consumers"):
        secateur.prune(Literal("").eval(), torch.rand(3, 5), sparsity=0.5)
