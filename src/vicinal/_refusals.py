"""What is refused for a MixedTarget, and the sentence that says what to write instead."""

from __future__ import annotations

import sys
from typing import NoReturn

import torch

_METRIC = (
    "{} needs one class index per entry: take y.largest(), or vicinal.metrics.mixed_accuracy(logits, y, topk=1) for the "
    "accuracy, or vicinal.integrations.lightning.MixedAccuracy() as a metric"
)
_LOOKUP = (
    "{} would look up one class index of several: write table[y] before mixing, or "
    "vicinal.MixedTarget(table[y.ids], y.weight); for losses vicinal.losses.mixed(criterion)"
)
_OTHER = (
    "{} has no meaning for a MixedTarget: do it to the class indices before mixing, or to y.ids and y.weight; y.largest() "
    "gives plain class indices"
)
# the names of functions and operators, without the underscores around them
_SENTENCES = {
    "mse_loss l1_loss smooth_l1_loss huber_loss poisson_nll_loss gaussian_nll_loss": (
        "{} takes numbers, and a MixedTarget holds class indices: for regression write .float() before mixing, "
        "mixup(x, y.float())"
    ),
    "binary_cross_entropy binary_cross_entropy_with_logits multilabel_soft_margin_loss multilabel_margin_loss "
    "soft_margin_loss": (
        "{} takes numbers: write .float() before mixing, mixup(x, y.float()), or pass y.dense(num_classes); of two "
        "classes y.dense(2)[:, 1]"
    ),
    "kl_div": "{} takes soft labels: pass y.dense(num_classes)",
    "multi_margin_loss triplet_margin_loss triplet_margin_with_distance_loss cosine_embedding_loss margin_ranking_loss "
    "hinge_embedding_loss ctc_loss cdist adaptive_log_softmax_with_loss": (
        "{} has no rule for a MixedTarget: vicinal.losses.mixed(criterion) mixes any loss on class indices"
    ),
    "conversion float double half bfloat16 int short char byte bool cfloat cdouble chalf": (
        "{} would make numbers of class indices: write .float() before mixing if they are numbers; soft labels are "
        "y.dense(num_classes), of two classes y.dense(2)[:, 1]"
    ),
    "getitem gather scatter scatter_add scatter_reduce index_select index_add index_copy index_fill index_put index_reduce "
    "take take_along_dim embedding embedding_bag isin searchsorted bucketize": _LOOKUP,
    "unique unique_consecutive unique_dim bincount histc argmax argmin topk max min amax amin aminmax sort argsort msort "
    "mode median nanmedian mean sum nansum prod cumsum std var any all count_nonzero nonzero equal allclose isclose numpy "
    "tolist item array int_ float_ cov corrcoef": _METRIC,
    "add radd iadd sub rsub isub subtract rsubtract mul rmul imul multiply truediv rtruediv itruediv div divide "
    "true_divide floordiv rfloordiv floor_divide mod rmod remainder fmod pow rpow matmul rmatmul neg negative pos positive "
    "abs and rand or ror xor rxor invert bitwise_and bitwise_or bitwise_xor bitwise_not logical_and logical_or logical_xor "
    "logical_not lshift rshift rlshift rrshift": (
        "{} would calculate with class indices, which are names: do it before mixing, or "
        "vicinal.MixedTarget(f(y.ids), y.weight)"
    ),
    "lt le gt ge less less_equal greater greater_equal": (
        "{} would put class indices in order, which are names: compare before mixing, or compare y.ids; == and != give "
        "shares, as in (logits.argmax(1) == y)"
    ),
    "clamp clip clamp_min clamp_max": (
        "{} has no meaning for mixed class indices; if it is part of a label smoother, give label_smoothing= to the loss "
        "instead"
    ),
    "setitem delitem": (
        "{} would change a MixedTarget in place: change the class indices before mixing, or make "
        "vicinal.MixedTarget(ids, weight)"
    ),
}
_BY_NAME = {name: sentence for names, sentence in _SENTENCES.items() for name in names.split()}
_METRIC_PACKAGES = {"torchmetrics", "ignite", "torcheval"}


def sentence(what: str) -> str:
    """Return the one sentence for a function, method, operator or conversion that has no meaning."""
    first = what.partition(" ")[0].rpartition(".")[2]
    known = _BY_NAME.get(first.strip("_"))
    if known is None and first.endswith("_") and not first.startswith("_"):
        known = _BY_NAME["setitem"]
    return (known or _OTHER).format(what)


def refuse(what: str) -> NoReturn:
    """Raise the error for what has no meaning.

    Raises:
        TypeError: always.

    """
    raise TypeError(sentence(what))


def refuse_metrics(what: str) -> None:
    """Refuse to answer a metric of another package, which would take shares for counts and report a wrong number.

    Raises:
        TypeError: the code that asks belongs to such a package.

    """
    if torch.compiler.is_compiling() or not any(name in sys.modules for name in _METRIC_PACKAGES):
        return
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        package = module.partition(".")[0]
        if module == "vicinal.metrics":  # takes shares for shares, whoever asks it
            return
        if package in _METRIC_PACKAGES:
            raise TypeError(_METRIC.format(f"{package} ({what})"))
        if package not in ("vicinal", "torch"):
            return
        frame = frame.f_back
