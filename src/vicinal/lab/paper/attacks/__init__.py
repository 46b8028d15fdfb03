"""Attacks on models that classify images: small changes of the pixels that raise the loss (paper, section 3.5)."""

from vicinal.lab.paper.attacks.evaluation import Errors, evaluate
from vicinal.lab.paper.attacks.gradient import FGSM, PGD, Attack, IteratedFGSM
from vicinal.lab.paper.attacks.model import NormalizedModel
from vicinal.lab.paper.attacks.strong import AutoAttack

__all__ = ["FGSM", "PGD", "Attack", "AutoAttack", "Errors", "IteratedFGSM", "NormalizedModel", "evaluate"]
