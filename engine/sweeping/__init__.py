"""Sweeps: many combinations of parameters, searched in chunks by however many workers there are."""
