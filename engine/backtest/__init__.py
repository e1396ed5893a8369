"""Backtests: the same core over history, and the numbers it leaves."""
