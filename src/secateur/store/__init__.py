"""The run folder: content-addressed cells, committed in one step. It knows no models."""

from typing import TYPE_CHECKING, Any

from secateur.store.folder import Store as Store
from secateur.store.latencies import LATENCIES as LATENCIES
from secateur.store.latencies import Conditions as Conditions
from secateur.store.latencies import Latencies as Latencies
from secateur.store.latencies import Measured as Measured
from secateur.store.latencies import Spread as Spread
from secateur.store.latencies import architecture_cell as architecture_cell
from secateur.store.latencies import dense_cell as dense_cell
from secateur.store.latencies import read_latencies as read_latencies
from secateur.store.latencies import write_latencies as write_latencies
from secateur.store.lease import Leases as Leases
from secateur.store.record import Failure as Failure
from secateur.store.record import Parts as Parts
from secateur.store.record import Record as Record
from secateur.store.record import Timing as Timing
from secateur.store.science import Accuracy as Accuracy
from secateur.store.science import AttackScience as AttackScience
from secateur.store.science import Check as Check
from secateur.store.science import Damaged as Damaged
from secateur.store.science import NetworkScience as NetworkScience
from secateur.store.science import Proof as Proof
from secateur.store.science import PruneScience as PruneScience
from secateur.store.science import Science as Science
from secateur.store.science import Size as Size
from secateur.store.science import TrainScience as TrainScience
from secateur.store.science import TuneScience as TuneScience

if TYPE_CHECKING:
    from secateur.store.examples import EXAMPLES as EXAMPLES
    from secateur.store.examples import Examples as Examples
    from secateur.store.examples import evenly as evenly


# Pictures need numpy, which the check of a study does without.
def __getattr__(name: str) -> Any:
    if name not in {"EXAMPLES", "Examples", "evenly"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from secateur.store import examples

    return getattr(examples, name)
