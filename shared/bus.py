"""Redis: keys, channels and streams. Transport and cache only; everything here may be flushed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

import orjson
import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

EVENTS: Final = "events"
COMMANDS: Final = "commands"
COMMAND_READERS: Final = "engine"
MARKET_DATA_SECONDS: Final = 60
HEARTBEAT_SECONDS: Final = 10


def connect(url: str) -> redis.Redis:
    """A client that answers or fails within two seconds.

    A connection that Redis closed meanwhile is replaced at once, once; redis-py's own way, three tries
    with growing pauses, would hold a page or an engine up for seconds.
    """
    again = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
    return redis.Redis.from_url(
        url, socket_timeout=2, socket_connect_timeout=2, decode_responses=True, retry=again
    )


def market_data_key(venue: str, symbol: str) -> str:
    return f"market_data:{venue}:{symbol}"


def heartbeat_key(process: str) -> str:
    return f"heartbeat:{process}"


def remember_quote(client: redis.Redis, venue: str, symbol: str, quote: dict[str, Any]) -> None:
    client.set(market_data_key(venue, symbol), orjson.dumps(quote), ex=MARKET_DATA_SECONDS)


def newest_quote(client: redis.Redis, venue: str, symbol: str) -> dict[str, Any] | None:
    """{"bid", "ask", "last", "at" (market time), "received_at"} as the engine left it, or None when stale."""
    raw = client.get(market_data_key(venue, symbol))
    return cast(dict[str, Any], orjson.loads(cast(str, raw))) if raw else None


def publish(client: redis.Redis, kind: str, **what: Any) -> None:
    """Tell open pages that something changed. May be lost; rows are the truth."""
    client.publish(EVENTS, orjson.dumps({"kind": kind, **what}))


def announce_command(client: redis.Redis, command_id: str) -> None:
    """Wake the engine for a command row that is already committed."""
    client.xadd(COMMANDS, {"id": command_id}, maxlen=10_000, approximate=True)


def beat(client: redis.Redis, process: str, **what: Any) -> None:
    """`process` lives; {"at": iso time, ...} for the status line."""
    client.set(heartbeat_key(process), orjson.dumps(what), ex=HEARTBEAT_SECONDS)


def heartbeats(client: redis.Redis) -> Iterator[tuple[str, dict[str, Any]]]:
    """(process, what it said) of every living process, by name."""
    for key in sorted(cast("Iterator[str]", client.scan_iter("heartbeat:*", count=200))):
        raw = client.get(key)
        if raw:
            yield key.removeprefix("heartbeat:"), cast(dict[str, Any], orjson.loads(cast(str, raw)))
