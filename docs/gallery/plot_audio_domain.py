"""
Audio: mix in the right domain
==============================

Two signals at once are the sum of their waveforms. The average of two log spectrograms is something else: where only one of
the two is loud, averaging decibels is multiplying powers, and the silence of the other pulls it below hearing. Mix
before the logarithm. (The chirps are synthesized: no recording comes with the packages that this page needs.)
"""

import matplotlib.pyplot as plt
import torch

import vicinal

# %%
# A rising and a falling chirp, a second each at 8 kHz, over a noise floor 80 dB below them.

rate = 8000
t = torch.arange(rate) / rate
noise = 1e-4 * torch.tensor(vicinal.Key(0, 0, 0, 0).generator().standard_normal((2, rate)), dtype=torch.float32)
waves = noise + torch.stack([torch.sin(6.2832 * (400 * t + 800 * t**2)), torch.sin(6.2832 * (3500 * t - 700 * t**2))])


def decibels(waves):
    spectrum = torch.stft(waves, 256, window=torch.hann_window(256), return_complex=True)
    return 20 * (spectrum.abs() / 64).clamp_min(1e-5).log10()


# %%
# One plan, applied before and after the logarithm. The level of each chirp is that of the loudest bin along its path.

plan = vicinal.MixPlan(partner=torch.tensor([1, 0]), weight=torch.tensor([0.5, 0.5]))
first, second = decibels(waves)
shown = {
    "rising chirp": first,
    "falling chirp": second,
    "waveforms mixed": decibels(plan(waves))[0],
    "decibels mixed": plan(decibels(waves))[0],
}
only_first = (first > -6) & (second < -60)  # where there is the rising chirp alone
for name in ("waveforms mixed", "decibels mixed"):
    change = (shown[name] - first)[only_first].median()
    print(f"{name}: the rising chirp changes by {change:.0f} dB")

fig, axes = plt.subplots(1, 4, figsize=(10, 3), sharey=True, layout="constrained")
for ax, (title, image) in zip(axes, shown.items(), strict=True):
    drawn = ax.imshow(image.numpy(), origin="lower", aspect="auto", extent=(0, 1, 0, 4), vmin=-90, vmax=0, cmap="magma")
    ax.set(title=title, xlabel="time, s")
axes[0].set_ylabel("frequency, kHz")
_ = fig.colorbar(drawn, label="level, dB")
