import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain import clock

MINUTE = 60_000_000_000


@given(
    st.lists(st.sampled_from([MINUTE, MINUTE, MINUTE, 3 * MINUTE, 1]), max_size=200),
    st.integers(0, 10**18),
)
def test_moments_come_back_as_they_were(steps, first):
    times = first + np.cumsum([0, *steps])
    found = clock.unpack(clock.pack(times))
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, times)


def test_there_may_be_none():
    assert len(clock.unpack(clock.pack(np.zeros(0, np.int64)))) == 0


@pytest.mark.parametrize(("gaps", "numbers"), [(0, 3), (1, 7)])
def test_a_clock_without_gaps_takes_no_room(gaps, numbers):
    times = np.arange(100_000) * MINUTE
    times[50_000:] += gaps * MINUTE
    assert len(clock.pack(times)) == 8 * numbers
