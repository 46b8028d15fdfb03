"""
Calibration: mixup makes networks less sure, for better or worse
================================================================

A classifier is calibrated if it is right in 80 % of the cases in which it says 80 %. On a hard task a network that is
trained for long without mixing (ERM) is far too sure, and mixup mends a part of that. On an easy one, where ERM is nearly
calibrated, the same mixup makes it too modest. Mixup lowers confidence; whether that helps depends on how high it was.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

import vicinal
from vicinal.lab.data.encoded_splits import StackedSplit
from vicinal.lab.data.table_inputs import TableInputs
from vicinal.lab.statistics import paired
from vicinal.lab.training.stacked_mlp import MLPRun, MLPTraining, train

# %%
# Two tasks of scikit-learn: does a patient's diabetes progress faster than the median, and which digit is this? Each on ten
# random splits, two thirds of the rows to train on. The expected calibration error (ECE) is the mean distance from the line.

SEEDS = range(10)
x, progression = load_diabetes(return_X_y=True)
tasks = {"hard: diabetes": (scale(x), progression > 140.5, 2), "easy: digits": (*load_digits(return_X_y=True), 10)}
methods = {"ERM": vicinal.ERM(), "mixup": vicinal.Mixup(alpha=0.4)}
runs = [MLPRun(split=seed, seed=seed, vicinity=vicinity) for vicinity in methods.values() for seed in SEEDS]

fig, axes = plt.subplots(1, 2, figsize=(7.6, 4), sharey=True, layout="constrained")
for ax, (name, (x, y, classes)) in zip(axes, tasks.items(), strict=True):
    splits = [train_test_split(scale(x), y, test_size=1 / 3, random_state=seed) for seed in SEEDS]
    x_train, x_test, y_train, y_test = (torch.stack([torch.tensor(s[i]) for s in splits]) for i in range(4))
    data = StackedSplit(TableInputs(x_train.float()), y_train.long())
    models, _ = train(runs, data, classes, MLPTraining(epochs=30 if classes == 10 else 120, batch_size=50))
    probabilities, truth = models.outputs(x_test.float().repeat(2, 1, 1)).softmax(2), y_test.long().repeat(2, 1)
    ece = vicinal.metrics.ece(probabilities, truth).reshape(2, len(SEEDS))
    difference, low, high, _ = paired((ece[1] - ece[0]).tolist(), test_share=1 / 2)
    print(f"{name}: ECE of ERM {ece[0].mean():.3f}, of mixup {ece[1].mean():.3f}", end="; ")
    print(f"difference {difference:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}")
    ax.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=1)
    for i, method in enumerate(methods):
        mine = slice(i * len(SEEDS), (i + 1) * len(SEEDS))
        bins = vicinal.metrics.reliability(probabilities[mine].flatten(0, 1), truth[mine].flatten(), bins=10)
        often = bins.count >= 50  # predictions, of all splits together
        label = f"{method}: ECE {ece[i].mean():.3f}"
        ax.plot(bins.confidence[often], bins.accuracy[often], color=f"C{i}", marker="o", label=label)
    ax.set(title=name, xlabel="confidence", xlim=(0.3, 1.02), ylim=(0.3, 1.02))
    ax.legend(loc="lower right")
_ = axes[0].set_ylabel("accuracy")
