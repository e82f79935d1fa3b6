"""The networks of the zoo, each with the images it is made for: channels, height and width."""

from secateur.registry.registry import Registry

MODELS = Registry("model")

HUB = "hf:"
"""Before the name of a trained network of Hugging Face, or the folder of one."""
_CIFAR = (3, 32, 32)
_RESNET = {"paper": "arXiv:1512.03385", "bibtex": ("he2016",)}
_WIDE = {"paper": "arXiv:1605.07146", "bibtex": ("zagoruyko2016",)}
_VGG = {"paper": "arXiv:1409.1556", "bibtex": ("simonyan2015",)}


def of_own_file(arch: str) -> bool:
    """Whether a name has the form ``FILE.py:FUNCTION``: a network of a file that ``--plugin`` names.

    >>> of_own_file("net.py:build"), of_own_file("timm:resnet18")
    (True, False)
    """
    return arch.rpartition(":")[0].endswith(".py")


def registered(arch: str) -> bool:
    """Whether a name is that of an entry of ``MODELS``, and not of a network of an installed package.

    >>> registered("resnet18"), registered("timm:resnet18")
    (True, False)
    """
    return ":" not in arch or of_own_file(arch)


def comes_with_weights(arch: str) -> bool:
    """Whether a network brings its weights: of Hugging Face, a plug-in or a package, not from our zoo.

    A study keeps the weights of such a network; those of the zoo, torchvision and timm are drawn by seed.

    >>> comes_with_weights("resnet18"), comes_with_weights("hf:google/vit-base-patch16-224")
    (False, True)
    """
    if arch.startswith(HUB):
        return True
    return registered(arch) and not MODELS.entry(arch).target.startswith("secateur.")


MODELS.register(
    "resnet-tiny",
    "secateur.models.resnet:resnet_tiny",
    "residual network for small images (the demo's)",
    input=(1, 8, 8),
    label="ResNet-tiny",
    **_RESNET,
)
MODELS.register(
    "smallcnn",
    "secateur.models.smallcnn:smallcnn",
    "4 convolutions, 3 dense layers, for 28x28 digits",
    input=(1, 28, 28),
    label="small CNN",
    paper="arXiv:1608.04644",
    bibtex=("carlini2017",),
)
MODELS.register(
    "resnet18",
    "secateur.models.resnet:resnet18",
    "ResNet-18 with the CIFAR stem",
    input=_CIFAR,
    label="ResNet-18",
    **_RESNET,
)
MODELS.register(
    "resnet50",
    "secateur.models.resnet:resnet50",
    "ResNet-50 with the CIFAR stem",
    input=_CIFAR,
    label="ResNet-50",
    **_RESNET,
)
MODELS.register(
    "resnet20",
    "secateur.models.resnet:resnet20",
    "CIFAR ResNet-20, shortcuts of zero channels",
    input=_CIFAR,
    label="ResNet-20",
    **_RESNET,
)
MODELS.register(
    "resnet56",
    "secateur.models.resnet:resnet56",
    "CIFAR ResNet-56, shortcuts of zero channels",
    input=_CIFAR,
    label="ResNet-56",
    **_RESNET,
)
MODELS.register(
    "resnet110",
    "secateur.models.resnet:resnet110",
    "CIFAR ResNet-110, shortcuts of zero channels",
    input=_CIFAR,
    label="ResNet-110",
    **_RESNET,
)
MODELS.register(
    "preact-resnet18",
    "secateur.models.preact_resnet:preact_resnet18",
    "pre-activation ResNet-18",
    input=_CIFAR,
    label="PreAct ResNet-18",
    paper="arXiv:1603.05027",
    bibtex=("he2016identity",),
)
MODELS.register(
    "wrn-28-10",
    "secateur.models.wide_resnet:wrn",
    "wide ResNet-28-10, TRADES layout",
    input=_CIFAR,
    label="WRN-28-10",
    **_WIDE,
)
MODELS.register(
    "wrn-28-10-silu",
    "secateur.models.wide_resnet:wrn_silu",
    "wide ResNet-28-10, SiLU, DeepMind layout",
    input=_CIFAR,
    label="WRN-28-10 (SiLU)",
    **_WIDE,
)
MODELS.register(
    "vgg16-bn",
    "secateur.models.vgg:vgg16",
    "VGG-16 with batch normalisation, for 32x32 images",
    input=_CIFAR,
    label="VGG-16",
    **_VGG,
)
MODELS.register(
    "vgg19-bn",
    "secateur.models.vgg:vgg19",
    "VGG-19 with batch normalisation, for 32x32 images",
    input=_CIFAR,
    label="VGG-19",
    **_VGG,
)
