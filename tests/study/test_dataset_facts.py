import subprocess
import sys

import pytest
import torch

from secateur.config import parse_study
from secateur.errors import UserError
from secateur.models import build, initialise
from secateur.study import build_models, plan, read_facts, run_plan
from toy.study import SMALL


def test_the_digits_are_split_and_counted():
    facts = read_facts(parse_study(SMALL))
    assert facts.train + facts.validation + facts.test == 1797
    assert facts.shape == (1, 8, 8)
    assert facts.classes == 10


def test_the_split_belongs_to_the_fingerprint():
    one = read_facts(parse_study(SMALL))
    assert one == read_facts(parse_study(SMALL))
    assert one.fingerprint != read_facts(parse_study(SMALL, overrides=["seed=1"])).fingerprint


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("attacks.ddn.stpes=3", r"attacks\.ddn\.stpes: unknown setting.* -> did you mean 'steps'\?"),
        ("attacks.ddn.generator=3", r"attacks\.ddn\.generator: unknown setting"),
        ("models.plain.settings={widht: 3}", r"models\.plain\.settings\.widht: unknown setting"),
        ("images=5000", r"images: there are only 359 test images \(got 5000\)"),
        (
            "pruning={keep: [layer9]}",
            r"pruning\.keep\.0: the model 'plain' has no module or parameter 'layer9'",
        ),
        ("pruning={rates: {layre1: 0.1}}", r"has no module or parameter 'layre1' -> did you mean 'layer1'\?"),
        ("models.plain.weights=none.pt", r"models\.plain\.weights: .*none\.pt"),
    ],
)
def test_settings_that_do_not_fit_the_code_or_the_data_are_refused(override, complaint):
    with pytest.raises(UserError, match=complaint):
        read_facts(parse_study(SMALL, overrides=[override]))


def test_layers_may_be_modules_parameters_or_groups():
    names = "[layer1, layer2.0.conv1.weight, 'conv1.weight[0]']"
    read_facts(parse_study(SMALL, overrides=[f"pruning={{keep: {names}}}"]))


def test_late_errors_name_the_line_of_the_file():
    text = SMALL.replace("{ddn: {steps: 10}}", "\n  ddn:\n    steps: 10\n    gama: 0.1")
    line = text.splitlines().index("    gama: 0.1") + 1
    with pytest.raises(UserError, match=rf"study\.yaml:{line}: attacks\.ddn\.gama: unknown setting"):
        read_facts(parse_study(text))


def test_all_misfits_are_told_at_once():
    overrides = ["images=5000", "attacks.ddn.gama=1", "models.plain.settings={x: 1}"]
    with pytest.raises(UserError) as caught:
        read_facts(parse_study(SMALL, overrides=overrides))
    assert len(caught.value.message.splitlines()) == 3


def test_not_the_file_of_weights_counts_but_its_tensors(tmp_path):
    def facts(name, seed=0):
        model = build("resnet-tiny", in_channels=1)
        initialise(model, torch.Generator().manual_seed(seed))
        torch.save(model.state_dict(), tmp_path / name)
        return read_facts(parse_study(SMALL, overrides=[f"models.plain.weights={tmp_path / name}"]))

    assert facts("a.pt") == facts("b.pt")
    assert (tmp_path / "a.pt").read_bytes() != (tmp_path / "b.pt").read_bytes()
    assert facts("a.pt") != facts("a.pt", seed=1)


def test_weights_that_do_not_fit_are_found_before_anything_runs(tmp_path):
    torch.save(build("smallcnn").state_dict(), tmp_path / "other.pt")
    (tmp_path / "broken.pt").write_bytes(b"nonsense")
    text = SMALL.replace(
        "{plain: resnet-tiny}",
        f"\n  a: {{arch: resnet-tiny, weights: {tmp_path}/other.pt}}"
        f"\n  b: {{arch: resnet-tiny, weights: {tmp_path}/broken.pt}}",
    )
    with pytest.raises(UserError) as caught:
        read_facts(parse_study(text))
    first, second = caught.value.message.splitlines()
    assert first.startswith("study.yaml:5: models.a.weights: ")
    assert second.startswith("study.yaml:6: models.b.weights: ")


@pytest.mark.slow
def test_networks_that_differ_in_weights_alone_are_probed_once(monkeypatch):
    measured = []

    def note(network, images, threads):
        measured.append(type(network).__name__)
        return 1e-3 * len(measured)

    monkeypatch.setattr(build_models, "_seconds_per_unit", note)
    models = "models={a: resnet-tiny, b: {arch: resnet-tiny, recipe: {epochs: 3}}, c: resnet20}"
    speeds = plan(parse_study(SMALL, overrides=[models]), probe=True).speeds
    assert [speeds[label].seconds for label in "abc"] == [1e-3, 1e-3, 2e-3]
    # The grey levels that a normalisation is for are part of the network.
    models = "models={a: resnet-tiny, b: {arch: resnet-tiny, normalise: {mean: 0.4, std: 0.2}}}"
    speeds = plan(parse_study(SMALL, overrides=[models]), probe=True).speeds
    assert speeds["a"].seconds != speeds["b"].seconds


@pytest.mark.slow
def test_what_is_done_is_not_probed(tmp_path, monkeypatch):
    study = parse_study(SMALL)
    run_plan(plan(study), tmp_path / "run", execute="toy.stages:execute")
    monkeypatch.setattr(build_models, "measure_speeds", None)
    laid = plan(study, out=tmp_path / "run", probe=True)
    assert (laid.todo, laid.seconds(), laid.disk_bytes, laid.memory_bytes()) == ((), 0, 0, (0, 0))


@pytest.mark.slow
def test_a_probe_measures_every_model():
    probed = plan(parse_study(SMALL), probe=True)
    assert probed.speeds["plain"].seconds > 0
    assert probed.speeds["plain"].macs > 1000
    assert probed.seconds(jobs=2) > 0
    assert plan(parse_study(SMALL)).seconds() is None


@pytest.mark.slow
def test_a_plan_does_not_load_torchs_compiler():
    code = (
        "import sys\n"
        "from secateur.config import parse_study\n"
        "from secateur.study import plan\n"
        "text = '{name: small, data: digits, models: {a: resnet-tiny, b: resnet20}}'\n"
        "plan(parse_study(text, overrides=['sparsities=[0.5]', 'pruning.max_sparsity=0.9']), probe=True)\n"
        "assert 'torch' in sys.modules\n"
        "assert not {'torch._dynamo', 'sympy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
