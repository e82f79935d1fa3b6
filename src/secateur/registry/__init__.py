"""Names of attacks, criteria, models, datasets, rates and checkpoints, without importing what they name."""

from secateur.registry.attacks import ATTACKS as ATTACKS
from secateur.registry.checkpoints import CHECKPOINTS as CHECKPOINTS
from secateur.registry.checkpoints import checkpoint as checkpoint
from secateur.registry.checkpoints import has_weights as has_weights
from secateur.registry.criteria import CRITERIA as CRITERIA
from secateur.registry.datasets import DATASETS as DATASETS
from secateur.registry.models import HUB as HUB
from secateur.registry.models import MODELS as MODELS
from secateur.registry.models import comes_with_weights as comes_with_weights
from secateur.registry.models import of_own_file as of_own_file
from secateur.registry.models import registered as registered
from secateur.registry.plugins import PlugIn as PlugIn
from secateur.registry.plugins import load_plugin as load_plugin
from secateur.registry.plugins import loaded as loaded
from secateur.registry.plugins import require as require
from secateur.registry.plugins import version_of as version_of
from secateur.registry.rates import RATES as RATES
from secateur.registry.registry import Entry as Entry
from secateur.registry.registry import Registry as Registry
from secateur.registry.settings import takes_steps as takes_steps
