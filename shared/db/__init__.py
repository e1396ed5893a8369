"""Rows of PostgreSQL. Each model's docstring names the one program that writes it."""
