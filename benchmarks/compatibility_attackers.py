"""How each tool attacks, and what its result is worth: verdicts (word, text) of `compatibility.py`.

The oracle looks at networks and images alone, never at what a tool says, but for one thing: a success that it
claims and that is none.
"""

import numpy as np
import torch
from compatibility_tools import failed
from torch import nn


def secateur_attack(t, x, y, attack):
    import secateur
    from secateur.attacks import Outcome

    settings = {
        "pgd": {"eps": t.eps, "steps": 40},
        "fmn": {"steps": 100, "norm": float("inf")},
        "square": {"eps": t.eps, "steps": 1000},
    }[attack]
    settings = {**settings, **t.ours}
    name = settings.pop("name", attack)
    if name != attack:
        settings.pop("steps")
    if "eps" in settings and t.size is not None:
        settings["eps"] = t.size
    data = t.shown if t.shown is not None else (x, y)
    if t.bounds != (0.0, 1.0):
        data = secateur.data.of(data, bounds=t.bounds)
    if t.mask is not None:
        settings["mask"] = t.mask
    settings.setdefault("targets", t.targets)
    model = t.model
    if t.normal:
        model = secateur.models.Normalised(model, ((t.normal[0],), (t.normal[1],)))
    done = secateur.attack(model, data, name, **settings).result
    claims = done.where(Outcome.FOUND)
    if attack == "fmn":
        claims &= done.distance <= t.eps
    if isinstance(settings["targets"], int):  # images of the wanted class are left out
        asked = t.y != settings["targets"]
        whole, all_claims = t.x.clone(), torch.zeros(len(t.x), dtype=torch.bool)
        whole[asked], all_claims[asked] = done.adv, claims
        return whole, all_claims
    return done.adv, claims


def foolbox_attack(t, x, y, attack):
    import foolbox

    normal = {"preprocessing": {"mean": t.normal[0], "std": t.normal[1]}} if t.normal else {}
    model = foolbox.PyTorchModel(t.model, bounds=t.bounds, device="cpu", **normal)
    if t.average > 1:
        model = foolbox.models.ExpectationOverTransformationWrapper(model, n_steps=t.average)
    goal = foolbox.Misclassification(y) if t.targets is None else foolbox.TargetedMisclassification(t.targets)
    attacks = {
        "pgd": lambda: foolbox.attacks.LinfPGD(steps=40, rel_stepsize=0.1),
        "fmn": lambda: foolbox.attacks.LInfFMNAttack(steps=100),
    }
    _, adv, claims = attacks[attack]()(model, x, goal, epsilons=eps_of(t))
    return adv, claims


def torchattacks_attack(t, x, y, attack):
    import torchattacks

    eps = eps_of(t)
    if t.average > 1:
        found = torchattacks.EOTPGD(t.model, eps=eps, alpha=eps / 10, steps=40, eot_iter=t.average)
    elif attack == "pgd":
        found = torchattacks.PGD(t.model, eps=eps, alpha=eps / 10, steps=40)
    else:
        found = torchattacks.Square(t.model, eps=eps, n_queries=1000)
    if t.targets is not None:
        found.set_mode_targeted_by_label(quiet=True)
        return found(x, t.targets), None
    if t.normal:  # it wants to be handed what the network is handed
        mean, deviation = t.normal
        found.set_normalization_used([mean], [deviation])
        return found((x - mean) / deviation, y) * deviation + mean, None
    return found(x, y), None


def adv_lib_attack(t, x, y, attack):
    from adv_lib.attacks import fmn, pgd_linf

    goal = {"labels": y if t.targets is None else t.targets, "targeted": t.targets is not None}
    if attack == "pgd":
        return pgd_linf(t.model, x, ε=eps_of(t), steps=40, relative_step_size=0.1, **goal), None
    return fmn(t.model, x, norm=float("inf"), steps=100, **goal), None


def art_attack(t, x, y, attack):
    from art.attacks.evasion import ProjectedGradientDescent, SquareAttack
    from art.estimators.classification import PyTorchClassifier

    normal = {"preprocessing": t.normal} if t.normal else {}
    model = PyTorchClassifier(
        t.model,
        nn.CrossEntropyLoss(),
        tuple(t.x.shape[1:]),
        nb_classes=2 if t.targets is None else 3,
        clip_values=t.bounds,
        device_type="cpu",
        **normal,
    )
    eps = eps_of(t)
    if attack == "pgd":
        targeted = t.targets is not None
        found = ProjectedGradientDescent(
            model,
            eps=eps,
            eps_step=eps / 10,
            max_iter=40,
            targeted=targeted,
            batch_size=len(x),
            verbose=False,
        )
    else:
        found = SquareAttack(model, eps=eps, max_iter=1000, verbose=False)
    x, goal = (
        array if isinstance(array, np.ndarray) else array.numpy()
        for array in (x, y if t.targets is None else t.targets)
    )
    return torch.from_numpy(found.generate(x, goal)), None


def eps_of(t):
    return t.eps if t.size is None else t.size


ATTACKERS = {
    "secateur": ({"pgd", "fmn", "square"}, secateur_attack),
    "foolbox": ({"pgd", "fmn"}, foolbox_attack),
    "torchattacks": ({"pgd", "square"}, torchattacks_attack),
    "adv-lib": ({"pgd", "fmn"}, adv_lib_attack),
    "ART": ({"pgd", "square"}, art_attack),
}


def judge_attacked(make, tool, attack, call):
    """Attack by ``call(threat, x, y, attack)``, and verify on a network that is made a second time."""
    torch.manual_seed(0)
    t = make()
    torch.manual_seed(0)
    clean = make()
    if tool not in t.only:
        return "–", ""
    x, y = t.shown if isinstance(t.shown, tuple) else (t.x.clone(), t.y.clone())
    try:
        with t.context():
            adv, claims = call(t, x, y, attack)
    except Exception as error:
        word, text = failed(error, tool)
        return ("works", f"refused: {text}") if t.refuse and word == "refused" else (word, text)
    if t.refuse:
        return "wrong", t.refuse
    return verified(clean, adv, claims)


def verified(clean, adv, claims):
    """Count the examples that are some: another class, or the wanted one, inside the box and within ε."""
    seen = clean.shown[0] if isinstance(clean.shown, tuple) else clean.x
    dtype = seen.dtype if isinstance(seen, torch.Tensor) else torch.float32
    rounding = torch.finfo(dtype).eps * max(map(abs, clean.bounds))
    network, low, high = clean.judge or clean.model, *clean.bounds
    adv = torch.as_tensor(adv).detach().clone()

    def ask(images):
        images = images.clone().to(dtype)
        if clean.normal:
            images = (images - clean.normal[0]) / clean.normal[1]
        with torch.no_grad():
            return clean.read(network(images)).argmax(1)

    right = ask(clean.x) == clean.y
    there = ask(adv)
    hit = there != clean.y if clean.targets is None else there == clean.targets
    distance = (adv.double() - clean.x.double()).abs().flatten(1).amax(1)
    inside = (adv >= low - rounding).flatten(1).all(1) & (adv <= high + rounding).flatten(1).all(1)
    if clean.mask is not None:
        inside &= ((adv == clean.x) | clean.mask).flatten(1).all(1)
    real = (
        hit & inside & (distance <= clean.eps * (1 + 1e-5) + 2 * rounding) & adv.isfinite().flatten(1).all(1)
    )
    can = clean.can & right
    # What a network at random answers once is no claim about the one without.
    if claims is not None and clean.judge is None and (false := (claims & right & ~real).sum().item()):
        return "wrong", f"claims {int((claims & right).sum())} examples, of which {false} are none"
    found = int((real & can).sum())
    if found < 0.95 * int(can.sum()):
        return "wrong", f"finds {found} of {int(can.sum())}"
    return "works", ""
