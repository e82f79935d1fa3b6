"""What a study costs, also before its images are here."""

STUDY = """
name: absent
data: {spec: "%s:nowhere", sizes: [300, 40, 100]}
models: {net: {arch: resnet-tiny, recipe: {epochs: 2}}}
sparsities: [0, 0.5]
attacks: {ddn: {steps: 5}}
images: 10
"""


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
