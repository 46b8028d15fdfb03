"""Data for the lab: tables and their readers, the encoding for a model, splits and label noise."""
