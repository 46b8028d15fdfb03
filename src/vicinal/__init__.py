"""Train on the vicinity of your data: mixup (Zhang, Cisse, Dauphin, Lopez-Paz, ICLR 2018), whole.

    mixup = vicinal.Mixup(alpha=0.2)
    x, y = mixup(x, y)  # in the training loop; y goes to the loss as it is

Start reading at `vicinal.formula`, the paper's equations; then `vicinal.plan`: a plan is a recorded draw, and everything
else draws, applies or compares plans.

A name is imported when it is first used (PEP 562), and PyTorch with it: `vicinal --help` needs neither.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False  # for a type checker it is True; `typing` takes longer to import than this module

if TYPE_CHECKING:  # what type checkers and editors read; the table below says the same
    from vicinal import collate as collate
    from vicinal import compose as compose
    from vicinal import finite as finite
    from vicinal import formula as formula
    from vicinal import keyed as keyed
    from vicinal import latent as latent
    from vicinal import losses as losses
    from vicinal import methods as methods
    from vicinal import metrics as metrics
    from vicinal import mix_plan as mix_plan
    from vicinal import pairing as pairing
    from vicinal import plan as plan
    from vicinal import target as target
    from vicinal import testing as testing
    from vicinal import vicinities as vicinities
    from vicinal import vicinity as vicinity
    from vicinal import weighting as weighting
    from vicinal._show import show as show
    from vicinal.checking.check import check as check
    from vicinal.collate import Collate as Collate
    from vicinal.compose import Chain as Chain
    from vicinal.compose import Choice as Choice
    from vicinal.compose import Scheduled as Scheduled
    from vicinal.finite import FiniteCheck as FiniteCheck
    from vicinal.keyed import Key as Key
    from vicinal.latent import LatentMixing as LatentMixing
    from vicinal.mix_plan import MixPlan as MixPlan
    from vicinal.mix_plan import plan_from_dict as plan_from_dict
    from vicinal.pairing import LabelDistance as LabelDistance
    from vicinal.pairing import Nearest as Nearest
    from vicinal.pairing import OtherClass as OtherClass
    from vicinal.pairing import Pairing as Pairing
    from vicinal.pairing import RandomPairs as RandomPairs
    from vicinal.pairing import Roll as Roll
    from vicinal.pairing import SameClass as SameClass
    from vicinal.plan import Plan as Plan
    from vicinal.target import MixedTarget as MixedTarget
    from vicinal.vicinities import ERM as ERM
    from vicinal.vicinities import CutMix as CutMix
    from vicinal.vicinities import GaussianNoise as GaussianNoise
    from vicinal.vicinities import InputMixup as InputMixup
    from vicinal.vicinities import LabelSmoothing as LabelSmoothing
    from vicinal.vicinities import Mixup as Mixup
    from vicinal.vicinity import Vicinity as Vicinity
    from vicinal.weighting import Beta as Beta
    from vicinal.weighting import Dirichlet as Dirichlet
    from vicinal.weighting import Weighting as Weighting
else:  # type checkers would take any name for one that `__getattr__` knows
    _MODULES = (
        *(
            "collate",
            "compose",
            "finite",
            "formula",
            "latent",
            "losses",
            "methods",
            "metrics",
            "mix_plan",
            "pairing",
            "plan",
            "keyed",
        ),
        *("target", "testing", "vicinities", "vicinity", "weighting"),
    )
    _HOMES = {  # of each public name, the module that defines it
        "ERM": "vicinities",
        "Beta": "weighting",
        "Chain": "compose",
        "Choice": "compose",
        "Collate": "collate",
        "CutMix": "vicinities",
        "Dirichlet": "weighting",
        "FiniteCheck": "finite",
        "GaussianNoise": "vicinities",
        "InputMixup": "vicinities",
        "Key": "keyed",
        "LabelDistance": "pairing",
        "LabelSmoothing": "vicinities",
        "LatentMixing": "latent",
        "MixPlan": "mix_plan",
        "MixedTarget": "target",
        "Mixup": "vicinities",
        "Nearest": "pairing",
        "OtherClass": "pairing",
        "Pairing": "pairing",
        "Plan": "plan",
        "RandomPairs": "pairing",
        "Roll": "pairing",
        "SameClass": "pairing",
        "Scheduled": "compose",
        "Vicinity": "vicinity",
        "Weighting": "weighting",
        "check": "checking.check",
        "plan_from_dict": "mix_plan",
        "show": "_show",
    }
    __all__ = [*_HOMES, "losses", "metrics"]

    def __getattr__(name):
        """Import a public name, or a module, at its first use."""
        import importlib  # the command imports this module before Ctrl-C is heard, and nothing else

        if name in _MODULES:
            return importlib.import_module(f"vicinal.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module 'vicinal' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"vicinal.{_HOMES[name]}"), name)
        globals()[name] = value  # found there from now on
        return value

    def __dir__():
        """Return the names there are, imported or not yet."""
        return sorted({*globals(), *_HOMES, *_MODULES})
