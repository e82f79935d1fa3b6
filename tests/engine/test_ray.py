"""Ray as the engine, on a cluster of several nodes in this machine; skipped without Ray."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from secateur.engine.ray import PREPARE, RayEngine, refuse_open_head
from secateur.errors import ExitCode, UserError
from secateur.store import Store
from secateur.study import run_plan
from toy.study import EXECUTE, SMALL, run_toy, science, small_plan


def test_an_open_head_on_a_network_is_refused(monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    for address in ("10.0.0.3:6379", "ray://head.cluster:10001"):
        with pytest.raises(UserError, match="everybody in its network") as caught:
            refuse_open_head(address, trusted=False)
        assert caught.value.code == ExitCode.ENVIRONMENT
        refuse_open_head(address, trusted=True)
    for address in ("10.0.0.3", "ray://head.cluster", "head.cluster", "[2001:db8::1]:6379", "2001:db8::1"):
        with pytest.raises(UserError, match="everybody in its network"):
            refuse_open_head(address, trusted=False)
    for address in (
        None,
        "local",
        "127.0.0.1:6379",
        "localhost:6379",
        "[::1]:6379",
        "::1",
        "ray://127.0.0.1",
    ):
        refuse_open_head(address, trusted=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    refuse_open_head("10.0.0.3:6379", trusted=False)


class PretendedRay:
    """As much of Ray as an engine needs to connect; ``found`` is the head on this machine."""

    def __init__(self, found="10.0.0.3:6379"):
        self.gcs_address, self.connected = found, []

    def is_initialized(self):
        return bool(self.connected)

    def init(self, address, **_):
        self.connected.append(address)

    def get_runtime_context(self):
        return self

    def shutdown(self):
        self.connected.clear()

    def remote(self, function):
        return self

    def options(self, **_):
        return self


@pytest.fixture
def pretended(monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray = PretendedRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    return ray


@pytest.mark.parametrize("address", [None, "auto"])
def test_an_open_head_of_the_environment_is_refused_before_connecting(
    pretended, monkeypatch, tmp_path, address
):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.3:6379")
    with pytest.raises(UserError, match=r"on the Ray head 10\.0\.0\.3:6379"):
        RayEngine(tmp_path, address=address)
    assert pretended.connected == []
    RayEngine(tmp_path, address=address, trusted=True)
    assert pretended.connected == ["10.0.0.3:6379"]


def test_an_open_head_that_ray_finds_is_left_at_once(pretended, tmp_path):
    with pytest.raises(UserError, match=r"on the Ray head 10\.0\.0\.3:6379"):
        RayEngine(tmp_path, address="auto")
    assert not pretended.is_initialized()
    RayEngine(tmp_path, address="auto", trusted=True)
    assert pretended.is_initialized()


def test_a_head_that_only_this_machine_reaches_is_used(pretended, monkeypatch, tmp_path):
    pretended.gcs_address = "127.0.0.1:6379"
    RayEngine(tmp_path, address="auto")
    pretended.shutdown()
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.3:6379")
    RayEngine(tmp_path, address="local")  # the user's own words count, not the environment
    assert pretended.connected == ["local"]


def test_without_ray_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"secateur\[ray\]") as caught:
        RayEngine(tmp_path)
    assert caught.value.code == ExitCode.ENVIRONMENT


@pytest.fixture(scope="module")
def cluster():
    """A head without cores and one node of one core."""
    pytest.importorskip("ray", reason="needs the extra [ray]")
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    made = Cluster(
        initialize_head=True, connect=False, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    made.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    yield made
    made.shutdown()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def run(cluster, tmp_path):
    def run(name="run", *, on_event=None, text=SMALL, prepare=None):
        plan = small_plan(text)
        store = Store.create(tmp_path / name, plan.to_json())
        engine = RayEngine(
            store.root, execute=EXECUTE, address=cluster.address, trusted=True, prepare=prepare
        )
        return run_plan(plan, store.root, engine=engine, on_event=on_event)

    return run


pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.slow
def test_ray_gives_the_same_records_as_local_processes(run, tmp_path):
    outcome = run()
    assert (outcome.exit_code, outcome.ok) == (0, 8)
    run_toy(tmp_path / "local")
    assert science(tmp_path / "run") == science(tmp_path / "local")


@pytest.mark.slow
def test_a_failing_cell_is_not_tried_again_and_the_others_finish(run, tmp_path):
    (tmp_path / "run" / "logs").mkdir(parents=True)
    (tmp_path / "run" / "logs" / "TOY_FAIL").write_text("prune")
    outcome = run()
    assert (outcome.exit_code, outcome.ok) == (ExitCode.CELLS_FAILED, 4)
    assert "this toy breaks" in next(iter(outcome.failed.values()))


@pytest.mark.slow
def test_a_cell_that_kills_its_workers_is_lost_after_three(run, tmp_path):
    (tmp_path / "run" / "logs").mkdir(parents=True)
    (tmp_path / "run" / "logs" / "TOY_DIE").write_text("prune")
    events = []
    outcome = run(on_event=events.append)
    assert [event.kind for event in events].count("retry") == 2
    assert (outcome.exit_code, outcome.ok) == (ExitCode.CELLS_FAILED, 4)
    assert next(iter(outcome.failed.values())).startswith("worker_lost")


@pytest.mark.slow
def test_a_lost_node_costs_only_the_cell_that_ran_there(cluster, run, tmp_path):
    (tmp_path / "run" / "logs").mkdir(parents=True)
    sleep = tmp_path / "run" / "logs" / "TOY_SLEEP"
    sleep.write_text("3")
    doomed = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)

    def kill_when_both_nodes_work():
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("run/scratch/*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        cluster.remove_node(doomed, allow_graceful=False)
        sleep.write_text("0")

    killer = threading.Thread(target=kill_when_both_nodes_work)
    killer.start()
    events = []
    outcome = run(on_event=events.append)
    killer.join()
    assert [event.kind for event in events].count("retry") == 1
    assert (outcome.exit_code, outcome.ok) == (0, 8)
    run_toy(tmp_path / "local")
    assert science(tmp_path / "run") == science(tmp_path / "local")


@pytest.mark.slow
def test_a_signal_stops_a_ray_run_and_it_can_go_on(run, tmp_path):
    (tmp_path / "run" / "logs").mkdir(parents=True)
    (tmp_path / "run" / "logs" / "TOY_SLEEP").write_text("0.2")

    def interrupt(event):
        if event.kind == "ok":
            os.kill(os.getpid(), signal.SIGTERM)

    outcome = run(on_event=interrupt)
    assert outcome.exit_code == 143
    assert 1 <= outcome.ok < 8
    assert run().exit_code == 0


DRIVER = """
import sys
from pathlib import Path
from secateur.engine.ray import RayEngine
from secateur.study import run_plan
from toy.study import EXECUTE, small_plan
root = Path(sys.argv[1])
engine = RayEngine(root, execute=EXECUTE, address=sys.argv[2], trusted=True, prepare=None)
run_plan(small_plan(), root, engine=engine)
"""


def computing():
    """The processes of Ray that compute a cell."""
    listing = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listing.splitlines() if line.startswith("ray::_compute")]


@pytest.mark.slow
def test_a_killed_driver_leaves_no_process_and_its_study_goes_on(cluster, run, tmp_path):
    (tmp_path / "run" / "logs").mkdir(parents=True)
    sleep = tmp_path / "run" / "logs" / "TOY_SLEEP"
    sleep.write_text("1")
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path / "run"), cluster.address])
    deadline = time.monotonic() + 60
    while not (list(tmp_path.glob("run/scratch/*")) and computing()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert computing()
    driver.kill()
    driver.wait()
    deadline = time.monotonic() + 30
    while computing() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not computing()
    sleep.write_text("0")
    assert run().exit_code == 0
    run_toy(tmp_path / "local")
    assert science(tmp_path / "run") == science(tmp_path / "local")


@pytest.mark.slow
def test_a_machine_with_other_data_pauses_the_study_instead_of_failing_its_cells(run, tmp_path):
    with pytest.raises(UserError, match="the data on this machine are not those") as caught:
        run(prepare=PREPARE)
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert not science(tmp_path / "run")
