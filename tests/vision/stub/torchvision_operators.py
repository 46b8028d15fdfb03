"""Declare torchvision's operators where its wheel cannot load them: on Linux it is built for CUDA, PyTorch may not be.

`import torchvision` ends in an error without its two operators for boxes, `nms` and `qnms`. Images, models and transforms
need neither: a declaration without a kernel is enough for them.
"""

import importlib.abc
import importlib.util
import sys
from pathlib import Path


def lacking() -> bool:
    """Whether torchvision is built for CUDA and PyTorch is not."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    built_for = (Path(spec.origin).parent / "version.py").read_text()
    return torch.version.cuda is None and "+cu" in built_for


class BeforeTorchvision(importlib.abc.MetaPathFinder):
    """Finds nothing; declares the operators when torchvision is first imported, and not before."""

    library = None  # an operator lives as long as its library

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            if lacking():
                import torch

                library = torch.library.Library("torchvision", "DEF")
                for operator in ("nms", "qnms"):
                    library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                BeforeTorchvision.library = library


def install() -> None:
    sys.meta_path.insert(0, BeforeTorchvision())
