"""The figure of `vicinal check` shows what is recovered from rows that are really mixed."""

import numpy as np
import pytest

from bench import check_figure as figure


def test_the_shares_are_recovered():
    rows = figure.marked_rows()
    assert figure.by_least_squares(figure.blended(rows), rows) == pytest.approx([0.7, 0.3, 0, 0], abs=1e-9)
    assert np.bincount(figure.owners(figure.pasted(rows), rows).ravel()).tolist() == [70, 30]


def test_a_cell_of_nobody_is_refused():
    rows = figure.marked_rows()
    with pytest.raises(ValueError, match="equal to no row"):
        figure.owners(figure.blended(rows), rows)


def test_the_figure_says_what_it_shows():
    said = figure.draw()
    assert "recovers the shares 0.70 and 0.30" in said
    assert "give 0.70 and 0.30" in said
