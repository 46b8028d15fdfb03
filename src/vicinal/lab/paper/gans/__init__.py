"""Generative adversarial models whose discriminator is trained by mixup (paper, section 3.7)."""
