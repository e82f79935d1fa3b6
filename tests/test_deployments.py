"""The scripts of examples/ can be read by the programs they are for, and name commands that exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from secateur.cli.app import app

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = {
    "slurm.sh": (EXAMPLES / "slurm.sh").read_text(encoding="utf-8"),
    "kubernetes.yaml": (EXAMPLES / "kubernetes.yaml").read_text(encoding="utf-8"),
}


def calls(text):
    """Every call of the command line in a script."""
    for line in text.splitlines():
        if line.lstrip().startswith(("#", "echo")):
            continue
        for found in re.findall(r"\bsecateur ([a-z].*?)(?:\"?$)", line):
            yield found.replace('"', "").replace("'", "").split()


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_command_has_options_that_exist(name):
    verbs = get_command(app).commands
    found = list(calls(SCRIPTS[name]))
    assert {"run", "worker"} <= {verb for verb, *_ in found}
    for verb, *words in found:
        known = {option for parameter in verbs[verb].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_slurm_gets_a_script_that_bash_reads(tmp_path):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    # A stand-in for Slurm keeps what it is given.
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f'#!{bash}\nif [ "$1" = --parsable ]; then cat > {tmp_path}/job; echo 7; fi\n')
    (tmp_path / "secateur").write_text(f"#!{bash}\n")
    for path in (sbatch, tmp_path / "secateur"):
        path.chmod(0o755)
    told = {"PATH": f"{tmp_path}:/usr/bin:/bin", "STUDY": "study.yaml", "RUN": "/shared/run"}
    done = subprocess.run(
        [bash, EXAMPLES / "slurm.sh"], env=told, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "tasks: job 7" in done.stdout
    job = (tmp_path / "job").read_text()
    assert 'exec secateur run "study.yaml" --out "/shared/run"' in job
    assert subprocess.run([bash, "-n", tmp_path / "job"], check=False).returncode == 0
    del told["RUN"]
    missing = subprocess.run(
        [bash, EXAMPLES / "slurm.sh"], env=told, capture_output=True, text=True, check=False
    )
    assert "the run folder" in missing.stderr


def test_kubernetes_gets_one_pod_that_starts_and_others_that_join():
    (job,) = yaml.safe_load_all(SCRIPTS["kubernetes.yaml"])
    assert (job["kind"], job["spec"]["completionMode"]) == ("Job", "Indexed")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert "JOB_COMPLETION_INDEX" in container["args"][0]
    assert {mount["name"] for mount in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}


def test_the_image_is_built_from_files_that_exist():
    text = (EXAMPLES / "Dockerfile").read_text(encoding="utf-8")
    sources = [word for line in re.findall(r"^COPY (.*)$", text, flags=re.M) for word in line.split()[:-1]]
    assert len(sources) >= 5
    assert all((EXAMPLES.parent / source).exists() for source in sources)
