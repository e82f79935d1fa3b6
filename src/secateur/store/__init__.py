"""The run folder: content-addressed cells, committed in one step. It knows no models."""

from secateur.store.folder import Parts as Parts
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
