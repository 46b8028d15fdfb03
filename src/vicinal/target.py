"""MixedTarget, complete: the class (`_mixed_target.py`), its losses, its other functions, and its leaves as a pytree."""

from vicinal import _cross_entropy as _cross_entropy
from vicinal import _target_pytree as _target_pytree
from vicinal import _target_rules as _target_rules
from vicinal._mixed_target import MixedTarget as MixedTarget
