"""From a trained network to a decision: prune, fine-tune, attack, compare, and judge by limits."""

from secateur.decision.checking import check as check
from secateur.decision.classifying import Classified as Classified
from secateur.decision.classifying import evaluate as evaluate
from secateur.decision.limits import Judged as Judged
from secateur.decision.limits import Limits as Limits
from secateur.decision.lines import Line as Line
from secateur.decision.pairing import Compared as Compared
from secateur.decision.pairing import compare as compare
from secateur.decision.plotting import plot as plot
from secateur.decision.pruned import usual_recipe as usual_recipe
from secateur.decision.verdict import Verdict as Verdict
