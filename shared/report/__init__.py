"""The report of a run: its numbers in words, its curves as pictures, and all of it as one file.

The console shows it, the engine writes it; neither knows the other. Plain arrays come in, text goes out.
"""
