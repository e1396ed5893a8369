"""`seraphim web`: waitress serves the console."""

from __future__ import annotations

import argparse
import errno
import signal
from typing import Any, Final

import structlog
from waitress.server import create_server
from waitress.task import ThreadedTaskDispatcher

from deploy.exits import Exit, Stop
from deploy.process import serve
from shared.settings import Settings

THREADS: Final = 32
_LAST_WORDS_SECONDS: Final = 1
"""Pages being written may finish; open streams, which never would, are cut."""

log = structlog.get_logger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Listens on SERAPHIM_HOST and PORT (127.0.0.1 and 8000 unless set)."


def run(_args: argparse.Namespace, settings: Settings) -> int:
    return serve(settings, main)


def main(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT."""
    from webapp import create_app

    dispatcher = _Dispatcher()
    dispatcher.set_thread_count(THREADS)
    try:
        server = create_server(
            create_app(settings),
            host=settings.host,
            port=settings.port,
            threads=THREADS,
            connection_limit=1000,
            channel_request_lookahead=1,  # else a closed tab's stream is never noticed
            ident=None,
            _dispatcher=dispatcher,
        )
    except OSError as error:
        raise _why(error, settings) from error
    signal.signal(signal.SIGTERM, _end)
    log.info("web.listening", url=settings.console_url)
    server.run()
    return Exit.OK


def _end(*_: object) -> None:
    raise SystemExit(0)  # which waitress takes as: close


def _why(error: OSError, settings: Settings) -> Stop:
    if error.errno == errno.EADDRINUSE:
        return busy(settings.host, settings.port)
    return Stop(Exit.SETTINGS, f"cannot listen on {settings.host}:{settings.port}: {error}")


def busy(host: str, port: int) -> Stop:
    """The words for a port that someone else has."""
    return Stop(
        Exit.PORT_BUSY,
        f"port {port} on {host} is in use by another program. Stop that one, or choose another "
        f"port: PORT={port + 1 if port < 65535 else 8000}",
    )


class _Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]
    def shutdown(self, cancel_pending: bool = True, timeout: int = 0) -> Any:  # noqa: FBT001, FBT002
        del timeout
        return super().shutdown(cancel_pending, _LAST_WORDS_SECONDS)
