"""The streams of keyed draws beside those of plans: one registry, so that two uses never draw the same numbers."""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class Stream(IntEnum):
    """Number of a stream within a key (`vicinal.Key`); vicinities number theirs from 0 by `Key.fold`.

    `DROPOUT` and `PGD_START` are each the first of a series, 8 apart. Parts of a draw are numbered by `Key.fold`, or by
    the step, row and epoch in the key.

    Examples:
        >>> from vicinal import Key
        >>> Key(0, 0, 0, 0, Stream.SPLIT) == Key(0, 0, 0, 0, Stream.LABEL_NOISE)
        False

    """

    ORDER = 2**63  # order of the training examples, by epoch
    STACKED_WEIGHTS = 2**63 + 1  # initial weights of stacked models
    INPUT_NOISE = 2**63 + 2  # noise on test inputs
    LABEL_NOISE = 2**63 + 3
    DROPOUT = 2**63 + 4
    WEIGHTS = 2**63 + 5  # initial weights of one model
    SUBSET = 2**63 + 6  # which training examples a recipe takes
    AUTOATTACK = 2**63 + 7
    PGD_START = 2**63 + 2**32  # first points, by restart
    SPLIT = int.from_bytes(b"split")
    FOLDS = int.from_bytes(b"folds")
    CROP = 0x70696374757265
    AUGMENT = int.from_bytes(b"augment")
    SYNTHETIC = int.from_bytes(b"drawn")
    TOY = int.from_bytes(b"toy")
    DIAGNOSE = int.from_bytes(b"diag")
    INTRUSION = int.from_bytes(b"prem")  # bootstrap of the study of manifold intrusion
    INTERPOLATION = int.from_bytes(b"between")  # pairs of training points
    KEEL_ROWS = int.from_bytes(b"keel")  # which rows of a large table
    COST = int.from_bytes(b"cost")
