"""The bench: what a query costs kdns and its peers, side by side, with the same names in the same minutes."""
