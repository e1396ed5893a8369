"""`python -m deploy` is `seraphim`."""

from deploy.cli import script

script()
