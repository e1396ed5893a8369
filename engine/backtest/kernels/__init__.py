"""The core's rules once more, compiled: one strategy over stored bars, without an object a bar.

The core (`engine/core.py`, `engine/execution/paper.py`) is the truth; each part here names the part it
follows, in the same order of the same operations, so that even rounding agrees. A property test holds the
two together: tests/engine/test_kernel_parity.py. Nothing here names a strategy or an indicator.
"""
