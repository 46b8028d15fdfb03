"""The report of one comparison: a single HTML file that needs nothing but itself."""

from vicinal.lab.compare.report import render, write

__all__ = ["render", "write"]
