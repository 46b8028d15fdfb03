"""Train on the vicinity of your data: mixup (Zhang, Cisse, Dauphin, Lopez-Paz, ICLR 2018), whole.

    mixup = vicinal.Mixup(alpha=0.2)
    x, y = mixup(x, y)  # in the training loop; y goes to the loss as it is

Start reading at `vicinal.plan`: a plan is a recorded draw, and everything else draws, applies or compares plans.
"""

from vicinal import losses as losses
from vicinal import metrics as metrics
from vicinal.latent import LatentMixing as LatentMixing
from vicinal.pairing import LabelDistance as LabelDistance
from vicinal.pairing import Nearest as Nearest
from vicinal.pairing import OtherClass as OtherClass
from vicinal.pairing import Pairing as Pairing
from vicinal.pairing import RandomPairs as RandomPairs
from vicinal.pairing import Roll as Roll
from vicinal.pairing import SameClass as SameClass
from vicinal.plan import MixPlan as MixPlan
from vicinal.plan import Plan as Plan
from vicinal.plan import plan_from_dict as plan_from_dict
from vicinal.random import Key as Key
from vicinal.target import MixedTarget as MixedTarget
from vicinal.vicinity import ERM as ERM
from vicinal.vicinity import Chain as Chain
from vicinal.vicinity import Choice as Choice
from vicinal.vicinity import CutMix as CutMix
from vicinal.vicinity import GaussianNoise as GaussianNoise
from vicinal.vicinity import InputMixup as InputMixup
from vicinal.vicinity import LabelSmoothing as LabelSmoothing
from vicinal.vicinity import Mixup as Mixup
from vicinal.vicinity import Scheduled as Scheduled
from vicinal.vicinity import Vicinity as Vicinity
from vicinal.weighting import Beta as Beta
from vicinal.weighting import Dirichlet as Dirichlet
from vicinal.weighting import Weighting as Weighting

__version__ = "0.1.0"
