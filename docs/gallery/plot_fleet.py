"""
A fleet: 240 networks at once, and how often one pair of runs misleads
======================================================================

Small networks of one shape train as one batch of networks (a vectorized ensemble), each with a seed and a vicinity of its
own. That makes it cheap to ask how far seeds spread. The mean difference between alpha = 1 and training without mixing (ERM)
is clear here. Whoever trains one network of each and believes the better one is wrong as often as the title says.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import vicinal
from vicinal.lab.data.encoded_splits import StackedSplit
from vicinal.lab.data.table_inputs import TableInputs
from vicinal.lab.statistics import paired
from vicinal.lab.training.stacked_mlp import MLPRun, MLPTraining, train

# %%
# One split of scikit-learn's digits, 300 rows to train on, 80 seeds of initial weights and order for each method.

SEEDS = range(80)
x, y = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = (
    torch.tensor(part) for part in train_test_split(x.astype("float32") / 16, y, train_size=300, random_state=0)
)
methods = {"ERM": vicinal.ERM(), "mixup (α = 0.2)": vicinal.Mixup(0.2), "mixup (α = 1)": vicinal.Mixup(1.0)}
runs = [MLPRun(split=0, seed=seed, vicinity=vicinity) for vicinity in methods.values() for seed in SEEDS]
data = StackedSplit(TableInputs(x_train[None]), y_train[None])
models, _ = train(runs, data, 10, MLPTraining(epochs=100, batch_size=50, hidden=(32, 32)))
error = 100 * (models.outputs(x_test).argmax(2) != y_test).double().mean(1).reshape(3, len(SEEDS))

for i, name in enumerate(methods):
    print(f"{name}: test error {error[i].mean():.2f} %, standard deviation {error[i].std():.2f}")
found = paired((error[2] - error[0]).tolist(), test_share=0)
print(f"α = 1 minus ERM: {found.difference:+.2f} points, 95 % interval {found.low:+.2f} to {found.high:+.2f}")
pairs = (error[2][:, None] - error[0][None, :]).flatten().sign()  # every run of one with every run of the other
misled = (pairs == -torch.tensor(found.difference).sign()).double().mean()

fig, ax = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
for i in range(3):
    ax.scatter(error[i], 2 - i + 0.3 * (torch.arange(80) * 0.618 % 1 - 0.5), s=14, color=f"C{i}", alpha=0.6)
    ax.plot([error[i].mean()] * 2, [1.7 - i, 2.3 - i], color="black", linewidth=2)
title = f"{len(runs)} networks: of pairs (ERM, α = 1), {misled:.0%} say the opposite"
_ = ax.set(title=title, xlabel="test error, %", yticks=[2, 1, 0], yticklabels=methods)
