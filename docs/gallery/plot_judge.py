"""
Judge your own scores
=====================

You have one score per fold for two methods, from any program. Folds share most of their training rows, so a plain t-test
takes them for more evidence than they are. ``judge`` uses the corrected resampled t-test (Nadeau and Bengio 2003), and says
how probable it is that the methods are practically the same: within one point of accuracy of one another, say.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vicinal.lab.judge import judge

# %%
# Two classifiers of scikit-learn on its breast cancer table: five folds, repeated four times. Of five folds, one is tested
# on and four are trained on, so the test share is 1/4.

x, y = load_breast_cancer(return_X_y=True)
folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=4, random_state=0)
logistic = make_pipeline(StandardScaler(), LogisticRegression())
forest = RandomForestClassifier(20, random_state=0)
accuracy = {"forest": cross_val_score(forest, x, y, cv=folds), "logistic": cross_val_score(logistic, x, y, cv=folds)}
scores = {
    "method": [name for name in accuracy for _ in range(20)],
    "fold": [fold for _ in accuracy for fold in range(20)],
    "score": [score for name in accuracy for score in accuracy[name]],
}
asked = {"baseline": "forest", "higher_is_better": True, "rope": 0.01}
corrected = judge(scores, test_share=1 / 4, **asked).methods[0]
plain = judge(scores, independent=True, **asked).methods[0]  # as if every fold had data of its own
print("corrected:", corrected.sentence)
print("plain:", plain.sentence)

# %%
# The band is what makes no difference in practice, one point of accuracy.

fig, ax = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
ax.axvspan(-1, 1, color="#EEEEEE")
ax.axvline(0, color="#999999", linewidth=1)
ax.scatter(100 * (accuracy["logistic"] - accuracy["forest"]), [2] * 20, s=60, color="C0", alpha=0.35)
for height, found, color in ((1, plain, "C1"), (0, corrected, "C2")):
    ends = [[100 * (found.difference - found.low)], [100 * (found.high - found.difference)]]
    ax.errorbar(100 * found.difference, height, xerr=ends, fmt="o", color=color, capsize=5, linewidth=3)
labels = "each fold", f"plain t-test, p = {plain.p:.2g}", f"corrected, p = {corrected.p:.2g}"
_ = ax.set(
    title="logistic regression minus forest",
    xlabel="accuracy, points",
    yticks=[2, 1, 0],
    yticklabels=labels,
    ylim=(-0.5, 2.5),
)
