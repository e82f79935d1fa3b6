"""What a study costs, also before its images are here."""

import pytest

STUDY = """
name: absent
data: {spec: "%s:nowhere", sizes: [300, 40, 100]}
models: {net: {arch: resnet-tiny, recipe: {epochs: 2}}}
sparsities: [0, 0.5]
attacks: {ddn: {steps: 5}}
images: 10
"""


@pytest.mark.slow
def test_a_study_of_official_images_that_are_missing_is_priced(secateur, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY % "cifar10")
    said = secateur("plan", path, "--json")
    assert said.code == 0, said.err
    assert said.json["stages"] == {"train": 1, "attack": 2, "prune": 1}
    assert said.json["backwards"] == 2 * 300 + 2 * 10 * 5
    assert "'nowhere' holds no cifar10 files" in said.json["missing"]
    assert "priced for 300 + 40 + 100 images" in said.err
    assert secateur("run", path, "--out", tmp_path / "run").code == 2
    assert not (tmp_path / "run").exists()


def test_nobody_knows_the_size_of_ones_own_missing_images(secateur, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY % "npz")
    said = secateur("plan", path)
    assert (said.code, "Traceback" in said.err) == (2, False)
    assert "nowhere" in said.err


def test_a_missing_dataset_hides_no_other_mistake(secateur, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY % "cifar10")
    said = secateur("plan", path, "--set", "images=101")
    assert said.code == 2
    assert "there are only 100 test images (got 101)" in said.err


@pytest.mark.slow
def test_a_study_is_played_through_on_several_devices(secateur, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY % "cifar10")
    asked = ("plan", path, "--devices", "1,8", "--tflops", "0.5", "--price", "2")
    one, eight = secateur(*asked, "--json").json["forecasts"]
    assert (one["devices"], eight["devices"]) == (1, 8)
    assert one["seconds"] > eight["seconds"] >= eight["chain_seconds"]
    assert one["cost"] == 2 * one["seconds"] / 3600
    assert eight["cost"] == 2 * 8 * eight["seconds"] / 3600
    said = secateur(*asked)
    assert said.code == 0
    assert "the rest on devices of 0.5 TFLOP/s each" in said.out
    assert "longest chain, " in said.out
    assert secateur("plan", path, "--json").json["forecasts"] == []


@pytest.mark.slow
def test_devices_that_are_no_numbers_are_refused(secateur, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY % "cifar10")
    for devices in ("0", "1,,2", "-1", "many"):
        said = secateur("plan", path, "--devices", devices)
        assert (said.code, "is no list of numbers above 0" in said.err) == (2, True), devices
    said = secateur("plan", path, "--price", "2")
    assert (said.code, "--tflops and --price need --devices" in said.err) == (2, True)
