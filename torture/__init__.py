"""What real machines and real data do to vicinal, done on purpose and counted: `python -m torture`."""
