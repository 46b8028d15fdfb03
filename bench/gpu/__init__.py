"""A queue of measurements for one GPU: `python -m bench.gpu --list`, docs/performance.md.

Made for machines that are lent for minutes and keep nothing: the queue stops in time, and what it has done and how far
it has come leaves and returns in parcels. On a machine of one's own the same command simply runs until all is done.
"""
