"""Does a pipeline mix what its labels say? Rows that say who they are go in; what comes out tells who is in it.

Start reading at `check.py`; `codes.py` lists what can be found.
"""
