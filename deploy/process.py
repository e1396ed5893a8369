"""How a process of the Procfile begins: servers, a schema that fits, logs; then its own main."""

from __future__ import annotations

from collections.abc import Callable

from deploy.embedded import services
from deploy.schema import require_current
from shared import logs
from shared.settings import Settings


def serve(settings: Settings, main: Callable[[Settings], int]) -> int:
    """Run `main` on servers that are there, until it ends."""
    with services(settings) as ready:
        require_current(ready.database_url or "")
        logs.configure(settings.log_level, settings.log_format)
        return main(ready)
