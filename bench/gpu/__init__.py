"""Benchmarks on one GPU; each program also runs on a CPU with --quick, to see that it works.

python -m bench.gpu.kernels     mixing and its loss next to the bandwidth of a copy, and to timm, torchvision and kornia
python -m bench.gpu.throughput  images per second of training, ERM and mixup, next to the paper's reference recipe
python -m bench.gpu.cifar       the paper's runs on CIFAR by `vicinal train`, with their error and seconds per epoch

They need PyTorch's CUDA build; throughput and cifar need CIFAR in the folder that VICINAL_DATA names. Results go to
results/bench, or to --out. On a machine lent for minutes, keep the folder of cifar's runs (--runs) and rerun the same
command to resume: a run that is stopped loses less than a minute.
"""
