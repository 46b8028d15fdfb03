"""Generative adversarial networks whose discriminator is trained by mixup (paper, section 3.7)."""
