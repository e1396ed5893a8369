"""Measurements, run by `make bench`: never part of a test, never timed in one."""
