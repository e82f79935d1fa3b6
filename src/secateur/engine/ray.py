"""Cells on a Ray cluster; needs ``pip install 'secateur[ray]'`` and a folder that every machine sees.

Ray only sends cell ids to machines; results are in the run folder. Losing a machine, the head or the driver
therefore costs no more than the cells that were running.
"""

import os
import platform
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from secateur.config import Cell, Study
from secateur.engine import EXECUTE, Message
from secateur.engine.perform import load_execute, open_run, perform, reason
from secateur.errors import ExitCode, UserError
from secateur.registry import load_plugin, loaded
from secateur.store import Store
from secateur.store.files import machine_errors
from secateur.text import first_line

# Called once per process with the study and the store, before its first cell.
PREPARE = "secateur.study.dataset_facts:refuse_other_files"
# Words that Ray takes for an address: the cluster that it finds on this machine, and one that it starts.
AUTO, LOCAL = "auto", "local"
MAX_DEATHS = 3
SLOTS_SECONDS = 5.0


@dataclass
class RayEngine:
    """Runs every cell of one run folder as a Ray task on ``threads`` processor cores.

    Attributes:
        folder: the run folder, under the same path on every machine.
        threads: cores per cell.
        gpus: GPUs per cell.
        execute: what carries out a cell, ``module:function``.
        address: of a running cluster (``auto`` finds this machine's); None starts one on this machine.
        prepare: what checks a machine before its first cell, ``module:function``; None checks nothing.
        trusted: accept an open head, on which everybody in its network can run code.
    """

    folder: Path
    threads: int = 1
    gpus: int = 0
    execute: str = EXECUTE
    address: str | None = None
    prepare: str | None = PREPARE
    trusted: bool = False
    _ray: Any = None
    _task: Any = None
    _pending: dict[Any, str] = field(default_factory=dict)
    _deaths: Counter[str] = field(default_factory=Counter)
    _started: list[str] = field(default_factory=list)
    _slots: tuple[float, int] = (float("-inf"), 1)
    _started_cluster: bool = False

    def __post_init__(self) -> None:
        """Connect, or start a cluster here.

        Raises:
            UserError: Ray is not installed, the cluster cannot be reached, or its head is open to a network.
        """
        address = head_address(self.address)
        refuse_open_head(address, trusted=self.trusted)
        self._ray = _import_ray()
        if not self._ray.is_initialized():
            self._started_cluster = True
            try:
                self._ray.init(address=address, include_dashboard=False, log_to_driver=False)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise UserError(f"cannot reach Ray: {first_line(error)}", code=ExitCode.ENVIRONMENT) from None
            if address == AUTO:
                self._refuse_found_head()
        variables = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        # max_retries=0: Ray would retry silently, while deaths are counted and reported here. SPREAD: full
        # nodes would send waiting cells to and fro between them, a tenth of a second of CPU a cell.
        self._task = self._ray.remote(_compute).options(
            num_cpus=self.threads,
            num_gpus=self.gpus,
            max_retries=0,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": variables},
        )

    def _refuse_found_head(self) -> None:
        """Leave the head that Ray found here, unless it may be used; nothing was sent to it yet."""
        try:
            refuse_open_head(self._ray.get_runtime_context().gcs_address, trusted=self.trusted)
        except UserError:
            self._ray.shutdown()
            raise

    @property
    def slots(self) -> int:
        """Twice the cells that the cluster can run now, so that no machine waits for the driver."""
        asked, slots = self._slots
        if time.monotonic() - asked > SLOTS_SECONDS:
            has = self._ray.cluster_resources()
            cells = int(has.get("CPU", 0)) // self.threads
            if self.gpus:
                cells = min(cells, int(has.get("GPU", 0)) // self.gpus)
            slots = 2 * max(1, cells)
            self._slots = (time.monotonic(), slots)
        return slots

    def submit(self, cell: str) -> None:
        """Hand the cell to Ray."""
        plugins = tuple(str(plugin.path) for plugin in loaded())
        folder, python = str(self.folder.absolute()), sys.version_info[:2]
        reference = self._task.remote(folder, cell, self.execute, self.prepare, python, plugins)
        self._pending[reference] = cell
        if not self._deaths[cell]:
            self._started.append(cell)

    def poll(self, timeout: float) -> list[Message]:
        """New messages, waiting up to ``timeout`` seconds for a cell to end."""
        # Ray itself watches its machines; what a worker of a living machine does cannot be seen from here.
        found = [Message("start", cell) for cell in self._started]
        found += [Message("alive", cell) for cell in self._pending.values()]
        started = bool(self._started)
        self._started.clear()
        if not self._pending:
            time.sleep(0 if started else timeout)
            return found
        done, _ = self._ray.wait(list(self._pending), num_returns=1, timeout=0 if started else timeout)
        return [*found, *(self._result(reference) for reference in done)]

    def stop(self) -> None:
        """Interrupt running cells; queued ones never start."""
        for reference in self._pending:
            self._ray.cancel(reference)

    def close(self) -> None:
        """End everything at once, and the cluster if this engine started it."""
        for reference in self._pending:
            self._ray.cancel(reference, force=True)
        self._pending.clear()
        if self._started_cluster and self._ray.is_initialized():
            self._ray.shutdown()

    def _result(self, reference: Any) -> Message:
        cell = self._pending.pop(reference)
        errors = self._ray.exceptions
        try:
            kind, seconds, sentence = self._ray.get(reference)
            return Message(kind, cell, seconds=seconds, sentence=sentence)
        except errors.TaskCancelledError:
            return Message("stopped", cell)
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
            return self._lost(cell, first_line(error))
        except errors.RayError as error:
            return Message("paused", cell, sentence=f"Ray: {str(error).splitlines()[-1]}")

    def _lost(self, cell: str, reason: str) -> Message:
        self._deaths[cell] += 1
        if self._deaths[cell] >= MAX_DEATHS:
            return Message("lost", cell, sentence=reason)
        self.submit(cell)
        return Message("retry", cell, sentence=reason)


def head_address(address: str | None) -> str | None:
    """The address that Ray will use: ``RAY_ADDRESS`` of the environment stands for none, and for ``auto``."""
    return os.environ.get("RAY_ADDRESS") or address if address in (None, AUTO) else address


def refuse_open_head(address: str | None, *, trusted: bool) -> None:
    """Refuse a cluster on which everybody in its network can run code, unless it is trusted.

    ``auto`` passes: Ray finds the head on this machine, and its address is known only then.

    Raises:
        UserError: ``address`` is on another machine and Ray's token authentication is off.
    """
    own = address in (None, "", AUTO, LOCAL)
    if own or trusted or os.environ.get("RAY_AUTH_MODE") == "token" or _is_loopback(str(address)):
        return
    raise UserError(
        f"everybody in its network can run code on the Ray head {address}",
        hint="set RAY_AUTH_MODE=token on all machines, or say that the network is trusted",
        code=ExitCode.ENVIRONMENT,
    )


def _is_loopback(address: str) -> bool:
    """Whether ``[scheme://]host[:port]`` is this machine under an address that no other one reaches."""
    host = address.partition("://")[2] or address
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False  # a name, which may be any machine


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UserError(
            "Ray is not installed", hint="pip install 'secateur[ray]'", code=ExitCode.ENVIRONMENT
        ) from None
    return ray


def _compute(
    folder: str,
    cell_id: str,
    execute: str,
    prepare: str | None,
    python: tuple[int, int],
    plugins: tuple[str, ...],
) -> tuple[str, float, str]:
    """Compute one cell on a machine of the cluster; the result is (kind, seconds, sentence)."""
    started = time.perf_counter()
    try:
        if sys.version_info[:2] != python:
            raise UserError("this machine has another version of Python")
        with machine_errors(Path(folder)):
            store, study, cells = _opened(folder, prepare, plugins)
            kind = perform(store, study, cells[cell_id], load_execute(execute))
            why = reason(store, cell_id)
    except UserError as error:
        return "paused", 0.0, f"on {platform.node()}: {error}"
    return kind, time.perf_counter() - started, why


@lru_cache(maxsize=1)
def _opened(
    folder: str, prepare: str | None, plugins: tuple[str, ...]
) -> tuple[Store, Study, dict[str, Cell]]:
    for path in plugins:
        load_plugin(Path(path))
    store, study, cells = open_run(folder)
    if prepare:
        load_execute(prepare)(study, store)
    return store, study, cells
