"""Strategies: opinions with reasons. They know no quantity, no cash and no venue."""
