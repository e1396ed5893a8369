"""Logs are events with key-values: `log.info("order.denied", rule="max_drawdown")`.

Libraries that use `logging` come out in the same form. Secrets are taken out on the way.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO

import structlog

_SECRET_NAMES: Final = re.compile(
    r"password|passwd|secret|api_?key|private_?key|authorization|cookie|csrf|^token$|_otp$|^otp$",
    re.IGNORECASE,
)
_CREDENTIALS_IN_URL: Final = re.compile(r"(?<=://)[^\s/@]*:[^\s/@]*(?=@)")
_QUIET: Final = ("alembic", "asyncio", "ib_async", "rq", "urllib3", "waitress")
"""Libraries that say at `info` what matters to nobody but their authors."""


def configure(level: str = "info", form: str = "console", stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (default: standard output)."""
    out = _Unbreakable(stream or sys.stdout)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        without_secrets,
    ]
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(form, colours=out.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _rendering(form: str, *, colours: bool) -> list[structlog.typing.Processor]:
    if form == "json":
        # Not dict_tracebacks: it prints local variables, and those hold secrets.
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    plain = structlog.dev.plain_traceback
    return [
        structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain, pad_event_to=0)
    ]


def without_secrets(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> Mapping[str, Any]:
    """The event with secret values and the credentials inside URLs blotted out."""
    for key, value in event.items():
        if isinstance(value, str | bytes) and _SECRET_NAMES.search(key):
            event[key] = "***"
        elif isinstance(value, str) and "://" in value:
            event[key] = _CREDENTIALS_IN_URL.sub("***", value)
    return event


class _Unbreakable:
    """A stream whose reader may have gone: losing a log line must never stop an engine."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return

    def isatty(self) -> bool:
        return self._stream.isatty()
