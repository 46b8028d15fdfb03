"""What installed versions cannot do, as marks of tests; docs/development/versions.md counts what they skip.

Of PyTorch, 2.6 and 2.13 and later were tried, and what 2.6 cannot do is taken to be there from 2.7 on.
"""

import pytest
import sklearn
import torch

TORCH = tuple(int(number) for number in torch.__version__.partition("+")[0].split(".")[:2])
TRACES_TARGETS = TORCH >= (2, 7)

scores_classes = pytest.mark.skipif(
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 7),
    reason="scikit-learn 1.6 has no Brier score of several classes",
)
traces_targets = pytest.mark.skipif(
    not TRACES_TARGETS, reason="PyTorch 2.6 breaks the graph at a mixed target (docs/how-to/torch-compile.md)"
)
differentiates_in_forks = pytest.mark.skipif(
    TORCH < (2, 7), reason="PyTorch 2.6 differentiates in no process that was forked after it had done so"
)
splits_other_than_tensors = pytest.mark.skipif(
    TORCH < (2, 7), reason="PyTorch 2.6 splits tensors alone into the micro-batches of a pipeline"
)
