"""What one moment may hold at once: a time exit and a signal, and orders that must not meet."""

from __future__ import annotations

import pytest

from shared.domain.signals import TimeExit
from tests.builders import bars_of
from tests.engine.scripts import N, a_run, fills, outcomes, scripted

CLOSES = [100, 101, 102, 103, 104, 105, 106, 107]


def test_a_time_exit_leaves_although_the_signal_of_that_moment_is_content():
    """It used to be asked to cancel an order that the broker had not heard of yet."""
    script = scripted([1.0, N, N, 1.0, N, N, N, N], exits=(TimeExit(bars=3),))
    played = a_run(script, bars_of(CLOSES))
    assert [fill[0] + " " + fill[4] for fill in fills(played)] == ["buy entry", "sell time_exit"]
    assert outcomes(played) == ["ordered", "ordered", "nothing"]
    assert played.record.broken == []


@pytest.mark.parametrize(("target", "second"), [(0.5, "sell exit"), (2.0, "buy entry")])
def test_a_signal_that_wants_another_size_at_the_moment_of_a_time_exit_has_the_last_word(
    target, second
):
    script = scripted([1.0, N, N, target, N, N, N, N], exits=(TimeExit(bars=3),))
    played = a_run(script, bars_of(CLOSES))
    assert [fill[0] + " " + fill[4] for fill in fills(played)][:2] == ["buy entry", second]
    assert outcomes(played)[:3] == ["ordered", "ordered", "ordered"]
    assert played.record.broken == []
