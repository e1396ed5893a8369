"""`python -m deploy` is `seraphim`."""

import sys

from deploy.cli import main

sys.exit(main())
