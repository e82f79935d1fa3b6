import pytest

PRUNE = ("prune", "-m", "resnet-tiny", "--input", "1x1x8x8", "-s", "0.5")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-c", "taylor"), "add --data"),
        (("-c", "robust_taylor", "-d", "digits"), "needs adversarial images"),
        (("-c", "taylor", "-d", "digist"), "did you mean 'digits'"),
    ],
)
def test_a_criterion_on_data_without_its_data_is_refused(secateur, tmp_path, options, said):
    result = secateur(*PRUNE, "-o", tmp_path / "pruned", *options)
    assert result.code == 2
    assert said in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "pruned").exists()


def test_a_criterion_on_data_looks_at_the_dataset_it_is_given(secateur, tmp_path):
    result = secateur(*PRUNE, "-o", tmp_path / "pruned", "-c", "activation", "-d", "digits", "--json")
    assert result.code == 0, result.err
    assert result.json["max_error"] <= 1e-10
