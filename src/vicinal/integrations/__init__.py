"""Mixup in the terms of the libraries that people train with: a module each, which needs its library when it is imported."""
