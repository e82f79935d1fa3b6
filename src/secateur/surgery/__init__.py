"""Surgery: a plan lists the channels to remove; cutting removes them from the parameters of a model.

Attributes that state widths (``in_channels``, ``num_features``) follow, and temporary cuts are undone.
"""

from secateur.surgery.cut import check_fits as check_fits
from secateur.surgery.cut import cut_channels_ as cut_channels_
from secateur.surgery.cut import cut_optimizer_state as cut_optimizer_state
from secateur.surgery.cut import temporarily_cut as temporarily_cut
from secateur.surgery.cut import temporarily_zeroed as temporarily_zeroed
from secateur.surgery.plan import Cut as Cut
from secateur.surgery.plan import Plan as Plan
from secateur.surgery.plan import Repair as Repair
from secateur.surgery.plan import Slice as Slice
from secateur.surgery.plan import masks_of as masks_of
