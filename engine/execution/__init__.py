"""Brokers: they take requests and tell order events. They know no strategy and no risk rule."""
