"""Read by Python at its start, in programs that the tests run: this folder is on their PYTHONPATH."""

import torchvision_operators

torchvision_operators.install()
