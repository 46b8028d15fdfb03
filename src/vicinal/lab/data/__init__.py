"""Data for the lab: tables and their readers, the encoding for a network, splits and label noise."""
