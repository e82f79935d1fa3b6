"""Training and fine-tuning: one loop, driven by a recipe."""

from secateur.train.adversary import perturb as perturb
from secateur.train.augmentation import augment as augment
from secateur.train.averaging import recalibrate as recalibrate
from secateur.train.checkpoints import Checkpoints as Checkpoints
from secateur.train.checkpoints import Saved as Saved
from secateur.train.history import Epoch as Epoch
from secateur.train.history import History as History
from secateur.train.history import collapsed as collapsed
from secateur.train.loop import learning_rate as learning_rate
from secateur.train.loop import train as train
from secateur.train.losses import objective as objective
