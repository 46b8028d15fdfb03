"""The kinds of cards: each module turns data, code and results into pages of Markdown."""
