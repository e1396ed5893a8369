"""The facts behind "why did it (not) trade?": rows where there are rows, the strategy again where there are none."""
