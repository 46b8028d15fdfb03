"""mixup as scikit-learn estimators: MLPs that train with it, and `MixupMeta` for estimators that take sample weights.

    model = MixupClassifier(alpha=0.2).fit(x, y)                      # in place of MLPClassifier
    model = MixupClassifierCV(alphas=(0, 0.2, 1)).fit(x, y)           # alpha by cross-validation, all of them at once
    model = MixupMeta(RandomForestClassifier(), alpha=0.2).fit(x, y)  # any classifier with sample_weight

They mix rows of numbers, so that categories must be encoded as 0 and 1 before. Needs scikit-learn 1.6.1 or later.
"""

try:
    import sklearn  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "sklearn":
        raise
    raise ImportError(
        "vicinal.integrations.sklearn needs scikit-learn 1.6.1 or later: pip install 'vicinal[sklearn]'"
    ) from error

from vicinal.integrations.sklearn.classifier import MixupClassifier as MixupClassifier
from vicinal.integrations.sklearn.meta import MixupMeta as MixupMeta
from vicinal.integrations.sklearn.regressor import MixupRegressor as MixupRegressor
from vicinal.integrations.sklearn.search import MixupClassifierCV as MixupClassifierCV
from vicinal.integrations.sklearn.search import MixupRegressorCV as MixupRegressorCV

__all__ = ["MixupClassifier", "MixupClassifierCV", "MixupMeta", "MixupRegressor", "MixupRegressorCV"]
