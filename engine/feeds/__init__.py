"""Adapters that bring market events in: they know no strategy and no risk rule."""
