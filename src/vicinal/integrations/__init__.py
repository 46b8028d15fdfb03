"""Estimators and trainers of other libraries with mixup; each module imports its library by itself."""
