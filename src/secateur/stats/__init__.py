"""Statistics of proportions and distances; no other package defines any."""

from secateur.stats.effects import POWER as POWER
from secateur.stats.effects import SAME_RATIO as SAME_RATIO
from secateur.stats.effects import SAME_SHARE as SAME_SHARE
from secateur.stats.effects import SEEDS_FOR_SPREAD as SEEDS_FOR_SPREAD
from secateur.stats.effects import Effect as Effect
from secateur.stats.effects import holm as holm
from secateur.stats.effects import over_trainings as over_trainings
from secateur.stats.effects import share_effect as share_effect
from secateur.stats.effects import sign_test as sign_test
from secateur.stats.effects import t_interval as t_interval
from secateur.stats.effects import t_intervals as t_intervals
from secateur.stats.effects import trainings_agree as trainings_agree
from secateur.stats.effects import why_not_over_trainings as why_not_over_trainings
from secateur.stats.samples import CONFIDENCE_LEVEL as CONFIDENCE_LEVEL
from secateur.stats.samples import ENOUGH_IMAGES as ENOUGH_IMAGES
from secateur.stats.samples import Floats as Floats
from secateur.stats.samples import check_budgets as check_budgets
from secateur.stats.samples import exceeds as exceeds
from secateur.stats.samples import median as median
from secateur.stats.samples import median_interval as median_interval
from secateur.stats.samples import near_chance as near_chance
from secateur.stats.samples import quantile as quantile
from secateur.stats.samples import security_curve as security_curve
from secateur.stats.samples import wilson as wilson
