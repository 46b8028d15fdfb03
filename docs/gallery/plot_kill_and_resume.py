"""
Kill a training run, and resume it to the bit
=============================================

A draw is a function of the seed and the step, not of what was drawn before. So a run that was killed in the middle and
started again from its checkpoint mixes the batches that it would have mixed, and ends where the uninterrupted run ends: all
losses are equal to the last bit, and nothing of mixup's has to be in the checkpoint.
"""

import os
import subprocess
import sys
import tempfile

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits

# %%
# The program under test writes a checkpoint every 20 steps, and its losses in hexadecimal: nothing is rounded.

PROGRAM = """
import os, torch, vicinal
x, y = torch.load("digits.pt")
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
mixup, first = vicinal.Mixup(alpha=1.0, seed=0), 0
if os.path.exists("checkpoint.pt"):
    first, weights, momenta = torch.load("checkpoint.pt")
    net.load_state_dict(weights), optimizer.load_state_dict(momenta)
for step in range(first, 240):
    if step % 20 == 0:
        torch.save((step, net.state_dict(), optimizer.state_dict()), "new.pt")
        os.replace("new.pt", "checkpoint.pt")  # whole or not there
    rows = torch.from_numpy(vicinal.Key(0, 0, 0, step).generator().permutation(1797)[:100])
    mixed_x, mixed_y = mixup(x[rows].float() / 16, y[rows], step=step)
    loss = torch.nn.functional.cross_entropy(net(mixed_x), mixed_y)
    optimizer.zero_grad(), loss.backward(), optimizer.step()
    print(step, loss.item().hex(), flush=True)
"""
with tempfile.TemporaryDirectory() as folder:
    torch.save([torch.tensor(of) for of in load_digits(return_X_y=True)], f"{folder}/digits.pt")
    how = {"args": [sys.executable, "-c", PROGRAM], "cwd": folder, "stdout": subprocess.PIPE, "text": True}
    whole = subprocess.run(**how, check=True).stdout.splitlines()
    os.remove(f"{folder}/checkpoint.pt")
    with subprocess.Popen(**how) as process:
        killed = [process.stdout.readline() for _ in range(131)]
        process.kill()  # SIGKILL, which no program survives
    resumed = subprocess.run(**how, check=True).stdout.splitlines()
runs = [{int(step): float.fromhex(loss) for step, loss in map(str.split, of)} for of in (whole, killed, resumed)]
whole, killed, resumed = runs
equal = [whole[step] == part[step] for part in (killed, resumed) for step in part]
print(f"killed after step {max(killed)}, resumed at step {min(resumed)}: {sum(equal)} of {len(equal)} losses are equal")
fig, ax = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
looks = ("#BBBBBB", 6, "never killed"), ("C0", 1.4, "killed after step 130"), ("C1", 1.4, "resumed from its checkpoint")
for run, (color, width, label) in zip(runs, looks, strict=True):
    ax.plot(list(run), list(run.values()), color=color, linewidth=width, label=label)
ax.set(title=f"{sum(equal)} of {len(equal)} losses equal to the last bit", xlabel="step", ylabel="training loss, nats")
_ = ax.legend()
