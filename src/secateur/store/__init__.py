"""The run folder: content-addressed cells, committed in one step. It knows no models."""

from secateur.store.folder import Parts as Parts
from secateur.store.folder import Store as Store
from secateur.store.lease import Leases as Leases
