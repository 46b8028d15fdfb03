"""Gradient-boosted trees of another package, by MixupMeta: they pass what they fail alone."""

from collections import Counter

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.utils.estimator_checks import check_estimator

from vicinal.integrations.sklearn import MixupMeta

lightgbm = pytest.importorskip("lightgbm", reason="needs LightGBM: pip install lightgbm")

QUIET = {"verbose": -1, "n_jobs": 1}


@pytest.mark.filterwarnings("ignore")  # scikit-learn's checks look at warnings themselves
@pytest.mark.parametrize(
    "base",
    [lightgbm.LGBMClassifier(n_estimators=5, **QUIET), lightgbm.LGBMRegressor(n_estimators=50, **QUIET)],
    ids=lambda base: type(base).__name__,
)
def test_every_check_of_scikit_learn_passes(base):
    alone = Counter(of["status"] for of in check_estimator(base, on_fail=None, on_skip=None))
    results = check_estimator(MixupMeta(base), on_fail=None, on_skip=None)
    assert {of["check_name"] for of in results if of["status"] != "passed"} <= {"check_array_api_input"}
    assert len(results) >= 57
    assert alone["failed"] > 0  # those of weights, for one


def test_labels_that_are_names():
    x, ids = load_digits(return_X_y=True)
    names = np.array([f"digit {i}" for i in ids])
    base = lightgbm.LGBMClassifier(n_estimators=20, random_state=0, **QUIET)
    model = MixupMeta(base, random_state=0).fit(x[:900], names[:900])
    assert list(model.classes_) == [f"digit {i}" for i in range(10)]
    assert 0.85 < model.score(x[900:], names[900:]) < 1
    np.testing.assert_allclose(model.predict_proba(x[900:]).sum(1), 1, atol=1e-9)
