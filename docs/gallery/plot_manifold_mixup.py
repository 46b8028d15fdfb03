"""
Manifold Mixup in a transformer
===============================

Manifold Mixup (Verma et al. 2019) mixes hidden states, before a layer that is drawn for each batch; ``LatentMixing`` does it
to any model by a hook. This transformer reads a digit row by row and ends in a state of two numbers, so that one can look at
it. Trained without mixing (ERM), it puts sharp borders between the digits; with Manifold Mixup it is unsure between them.
"""

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import vicinal
from vicinal.lab.statistics import paired

images, y = load_digits(n_class=4, return_X_y=True)
x, y = torch.tensor(images / 16).float().reshape(-1, 8, 8), torch.tensor(y)  # 8 tokens: the rows of the image


def train(vicinity, seed):
    torch.manual_seed(seed)
    block = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
    blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
    net = nn.Sequential(nn.Linear(8, 32), blocks, nn.Flatten(), nn.Linear(256, 2), nn.Linear(2, 4))
    latent = vicinal.LatentMixing(net, ["1.layers.0", "1.layers.1", "4"])
    optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
    for step in range(100):
        rows = torch.from_numpy(vicinal.Key(seed, 0, 0, step).generator().permutation(360)[:50])
        with latent(vicinity.plan(50, y[rows], step=step)) as plan:
            loss = F.cross_entropy(net(x[rows]), plan.target(y[rows]))
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    return net[:4], net[4]


# %%
# Five pairs of networks. How sure are they halfway between the states of two test digits of different classes?

half = vicinal.Mixup(vicinal.Beta(1e9), pairing=vicinal.OtherClass(), seed=0).plan(360, y[360:], step=0)
sure, wrong = torch.zeros(2, 5), torch.zeros(2, 5)
fig, axes = plt.subplots(1, 2, figsize=(8, 3.9), layout="constrained")
for i, vicinity in enumerate((vicinal.ERM(), vicinal.Mixup(alpha=1.0, seed=0))):
    for seed in (4, 3, 2, 1, 0):  # the last one is drawn
        body, head = train(vicinity, seed)
        states = body(x[360:]).detach()
        sure[i, seed] = head(half(states)).softmax(1).max(1).values.mean().item()
        wrong[i, seed] = 100 * (head(states).argmax(1) != y[360:]).float().mean()
    side = torch.linspace(-1, 1, 81) * 1.1 * states.abs().max()
    confidence = head(torch.cartesian_prod(side, side)).softmax(1).max(1).values.detach().reshape(81, 81)
    axes[i].contourf(side, side, confidence.T, 10, cmap="Grays", vmin=0.3, vmax=1.5)
    for digit in range(4):
        axes[i].scatter(*states[y[360:] == digit].T, s=9, color=f"C{digit}", label=digit)
    axes[i].set(title=f"{('ERM', 'Manifold Mixup')[i]}: halfway {sure[i].mean():.0%} sure", xticks=[], yticks=[])
axes[1].legend(title="digit", loc="upper left", bbox_to_anchor=(1, 1), markerscale=2)
for name, of in (("confidence halfway, %", 100 * sure), ("test error, %", wrong)):
    found = paired((of[1] - of[0]).tolist(), test_share=0)
    print(f"{name}: difference {found.difference:+.1f}, 95 % interval {found.low:+.1f} to {found.high:+.1f}")
