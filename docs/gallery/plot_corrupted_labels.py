"""
Corrupted labels: what is remembered, and what early stopping does
==================================================================

Half of the training labels of scikit-learn's digits are replaced by random ones, and small networks train for long enough to
learn them by heart, one by one. A strong mixup (alpha = 8, of the size that the paper takes for label noise) all but stops
that. So does stopping early: the best epochs of the two methods, chosen on the test rows for both, do not differ.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import vicinal
from vicinal.lab.data.encoded_splits import StackedSplit
from vicinal.lab.data.label_noise import corrupt_labels
from vicinal.lab.data.table_inputs import TableInputs
from vicinal.lab.statistics import paired
from vicinal.lab.training.stacked_mlp import MLPRun, MLPTraining, train

# %%
# Ten random splits: 600 rows to train on, 600 to test on. ``train`` trains all 20 networks at once.

SEEDS = range(10)
x, y = load_digits(return_X_y=True)
splits = [train_test_split(x / 16, y, train_size=600, test_size=600, random_state=seed) for seed in SEEDS]
x_train, x_test, y_train, y_test = (torch.stack([torch.tensor(s[i]) for s in splits]) for i in range(4))
noisy = torch.stack([torch.tensor(corrupt_labels(s[2], 10, 0.5, seed)) for seed, s in enumerate(splits)])
data = StackedSplit(TableInputs(x_train.float()), noisy)
methods = {"ERM": vicinal.ERM(), "mixup (α = 8)": vicinal.Mixup(8.0)}
runs = [MLPRun(split=seed, seed=seed, vicinity=vicinity) for vicinity in methods.values() for seed in SEEDS]
curve, fitted = [], []


def measure(epoch, models, active):
    for values, inputs, labels in ((curve, x_test, y_test), (fitted, x_train, noisy)):
        predicted = models.outputs(inputs.float().repeat(2, 1, 1)).argmax(2)
        values.append((predicted == labels.repeat(2, 1)).double().mean(1).reshape(2, len(SEEDS)))


train(runs, data, 10, MLPTraining(epochs=100, batch_size=50, hidden=(128, 128)), after_epoch=measure)
error, fitted = 100 * (1 - torch.stack(curve)), 100 * torch.stack(fitted)  # [epochs, methods, seeds]
for when, epochs in (("last epoch", error[-1]), ("best epoch", error.min(0).values)):
    difference, low, high, _ = paired((epochs[1] - epochs[0]).tolist(), test_share=1)
    print(f"{when}: ERM {epochs[0].mean():.1f} %, mixup {epochs[1].mean():.1f} %", end="; ")
    print(f"difference {difference:.1f} points, 95 % interval {low:.1f} to {high:.1f}")

fig, axes = plt.subplots(1, 2, figsize=(8.5, 3.6), layout="constrained")
for ax, values, title in ((axes[0], error, "test error, %"), (axes[1], fitted, "training labels fitted, %")):
    for i, name in enumerate(methods):
        ax.plot(range(1, 101), values[:, i], color=f"C{i}", alpha=0.2, linewidth=0.8)
        ax.plot(range(1, 101), values[:, i].mean(1), color=f"C{i}", label=name)
    ax.set(title=title, xlabel="epoch")
_ = axes[0].legend()
