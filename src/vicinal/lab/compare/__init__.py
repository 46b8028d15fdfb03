"""Does mixup help on my data? The comparison, its verdict and its report, and a look before any training."""
