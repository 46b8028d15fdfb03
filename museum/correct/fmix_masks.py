"""FMix: masks of low frequency, thresholded so that a share lambda of the cells is the row's own; counted, not drawn.

Source: ecs-vlc/FMix

    check: fmix
    finds: nothing
"""

import numpy as np
import torch

example = (torch.randn(24, 3, 16, 16), torch.eye(8)[torch.arange(24) % 8])


def low_frequency_image(size, decay=3.0):
    fy, fx = np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size), indexing="ij")
    frequency = np.maximum(np.sqrt(fy**2 + fx**2), 1 / size)
    spectrum = (np.random.randn(size, size) + 1j * np.random.randn(size, size)) / frequency**decay
    return np.real(np.fft.ifft2(spectrum))


def fmix(x, y):
    lam = np.random.beta(1.0, 1.0)
    gray = low_frequency_image(x.size(-1))
    mask = torch.from_numpy(gray <= np.quantile(gray, lam)).to(x.dtype)
    order = torch.randperm(len(x))
    share = float(mask.mean())
    return mask * x + (1 - mask) * x[order], share * y + (1 - share) * y[order]
