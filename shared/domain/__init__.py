"""The words of trading as plain data: no I/O, no clock, no framework."""
