"""Three examples a row with weights from a Dirichlet distribution, in a transform on batches.

Source: Hazelsuko07/InstaHide (klam images) and the remark on three or more examples in the mixup paper

    check: mix_three
    finds: nothing
"""

import torch

dirichlet = torch.distributions.Dirichlet(torch.ones(3))
example = (torch.randn(30, 3, 12, 12), torch.eye(6)[torch.arange(30) % 6])


def mix_three(x, y):
    n = len(x)
    weights = dirichlet.sample((n,))
    members = torch.stack([torch.arange(n), torch.randperm(n), torch.randperm(n)], 1)
    mixed = (weights[:, :, None] * x.flatten(1)[members]).sum(1).view_as(x)
    return mixed, (weights[:, :, None] * y[members]).sum(1)
