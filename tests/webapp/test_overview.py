"""The first page and the frame: what they count, and when they are silent."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from shared import bus
from shared.db.backtests import JobRow
from shared.db.console import CommandRow
from shared.db.trading import AccountRow, TradingStateRow
from shared.messages import CreateStrategy, decode
from tests.webapp.world import (
    NOON,
    a_strategy,
    a_type,
    an_account,
    an_event,
    an_instrument,
    deposit,
    equity,
)  # fmt: skip
from webapp import accounts, charts

MIDNIGHT_IN_BERLIN = datetime(2026, 9, 11, 22, 0, tzinfo=UTC)


def today(app, account, zone="Europe/Berlin"):
    with app.test_request_context():
        return accounts.today(account, zone)


def version_of(text):
    return text.split("v=", 1)[1].split('"', 1)[0]


# Today's P&L -------------------------------------------------------------------------------------


def test_todays_profit_begins_at_midnight_of_the_users_zone(app, rows):
    account = an_account(rows)
    equity(rows, account, {
        MIDNIGHT_IN_BERLIN - timedelta(minutes=1): "1000",
        MIDNIGHT_IN_BERLIN + timedelta(minutes=30): "1020",
        NOON: "1015",
    })  # fmt: skip
    rows.commit()
    assert today(app, account).pnl == Decimal(15)
    # in London the day began an hour later, when equity was 1020 already
    assert today(app, account, "Europe/London").pnl == Decimal(-5)


def test_money_paid_in_today_is_not_profit(app, rows):
    account = an_account(rows)
    equity(rows, account, {MIDNIGHT_IN_BERLIN: "1000", NOON: "1510"})
    deposit(rows, account, "500", NOON - timedelta(hours=1))
    rows.commit()
    day = today(app, account)
    assert day.pnl == Decimal(10)
    assert day.fraction == Decimal(10) / Decimal(1500)


def test_the_first_day_starts_from_what_was_paid_in(app, rows):
    account = an_account(rows, market_started_at=NOON)
    equity(rows, account, {NOON: "990"})
    rows.commit()
    assert today(app, account).pnl == Decimal(-10)


def test_unknown_equity_is_unknown_profit_not_zero(app, rows):
    account = an_account(rows)
    rows.commit()
    assert today(app, account).pnl is None


# Frame -------------------------------------------------------------------------------------------


def test_a_silent_engine_is_the_first_thing_the_frame_says(viewer, world):
    page = viewer.get("/frame").text
    assert "Engine silent" in page
    assert "nothing is decided or sent" in page


def test_a_beating_engine_lets_the_trading_state_speak(viewer, world, engine_beats):
    engine_beats(**{str(world.account.id): {"feed_at": datetime.now(UTC).isoformat()}})
    assert "Running" in viewer.get("/frame").text


@pytest.mark.parametrize(
    ("state", "scope", "word"),
    [
        ("halted", "account", "Halted"),
        ("reduce_only", "venue", "Reduce-only"),
        ("halted", "all", "Halted"),
        ("halted", "strategy", "Running"),
    ],
)
def test_the_most_restrictive_request_on_the_account_rules(
    viewer, world, rows, engine_beats, state, scope, word
):
    ids = {"account": str(world.account.id), "venue": "simulated", "all": "", "strategy": "1"}
    rows.add(TradingStateRow(scope=scope, scope_id=ids[scope], state=state, actor="x", reason="y"))
    rows.commit()
    engine_beats()
    assert f"<span data-n>{word}</span>" in viewer.get("/frame").text


def test_lifted_and_expired_requests_do_not_bind(viewer, world, rows, engine_beats):
    halted = TradingStateRow(scope="all", state="halted", actor="x", reason="y")
    old = TradingStateRow(
        scope="all", state="halted", actor="x", reason="y",
        expires_at=datetime.now(UTC) - timedelta(seconds=1),
    )  # fmt: skip
    rows.add_all([halted, old])
    rows.flush()
    rows.add(TradingStateRow(scope="all", state="running", actor="x", reason="z", lifts=halted.id))
    rows.commit()
    engine_beats()
    assert "<span data-n>Running</span>" in viewer.get("/frame").text


def test_a_simulated_market_is_labelled_with_its_speed(viewer, world):
    assert "simulated · 60\N{MULTIPLICATION SIGN}" in viewer.get("/").text


def test_live_money_changes_the_frame_itself(viewer, world, rows):
    rows.get(AccountRow, world.account.id).kind = "live"
    rows.commit()
    page = viewer.get("/").text
    assert '<body class="is-live"' in page
    assert "LIVE" in page
    assert "· LIVE</title>" in page


def test_the_account_looked_at_stays_chosen(viewer, world, rows):
    other = an_account(rows, "second", clock="replay", clock_speed=1.0, venue="replay")
    rows.commit()
    assert viewer.post("/account", data={"account": other.id}).status_code == 302
    assert "paper · second" in viewer.get("/").text
    assert viewer.post("/account", data={"account": 12345}).status_code == 302
    assert "paper · second" in viewer.get("/").text


def test_only_trouble_of_the_last_day_counts_as_a_warning(viewer, world, rows):
    an_event(rows, "Denied", severity="warning", account=world.account)
    an_event(rows, "A losing fill", severity="bad", kind="fill", account=world.account)
    an_event(rows, "Another account's", severity="bad", account=an_account(rows, "other"))
    assert "1 warning<" in viewer.get("/frame").text


# Parts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/overview/numbers", "/overview/positions", "/overview/bars", "/overview/events",
     "/overview/first-steps", "/strategies/list", "/risk/usage", "/stop/situation"],
)  # fmt: skip
def test_a_part_costs_204_until_something_changes(viewer, world, path):
    version = version_of(viewer.get(path).text)
    again = viewer.get(f"{path}?v={version}")
    assert (again.status_code, again.data) == (204, b"")
    assert viewer.get(f"{path}?v=other").status_code == 200


def test_a_new_price_changes_the_positions_and_not_the_list_of_what_happened(
    viewer, world, settings
):
    positions = version_of(viewer.get("/overview/positions").text)
    happened = version_of(viewer.get("/overview/events").text)
    with bus.connect(settings.redis_url) as client:
        bus.remember_quote(
            client, "simulated", "BTC/USD", {"bid": 119.9, "ask": 120.1, "last": 120.0}
        )
    fresh = viewer.get(f"/overview/positions?v={positions}")
    assert fresh.status_code == 200
    assert "120.00" in fresh.text
    assert "+10.00" in fresh.text
    assert viewer.get(f"/overview/events?v={happened}").status_code == 204


def test_positions_are_shown_as_a_share_of_equity_against_the_limit(viewer, world):
    page = viewer.get("/overview/bars").text
    assert "+5.5\N{NO-BREAK SPACE}%" in page  # 55 of 1004.95
    assert "limit 20\N{NO-BREAK SPACE}% an instrument" in page


def test_health_is_whole_only_with_engine_worker_and_clock(viewer, world, engine_beats):
    assert "no heartbeat of engine, worker, clock" in viewer.get("/overview/numbers").text
    engine_beats()
    assert "Healthy" in viewer.get("/overview/numbers").text


# What happened, toasts ---------------------------------------------------------------------------


def test_events_of_other_accounts_stay_with_them(viewer, world, rows):
    an_event(rows, "Mine", account=world.account)
    an_event(rows, "Everybody's")
    an_event(rows, "Theirs", account=an_account(rows, "other"))
    page = viewer.get("/events").text
    assert "Mine" in page
    assert "Everybody&#39;s" in page
    assert "Theirs" not in page


def test_news_becomes_a_toast_once_and_idle_chatter_does_not(viewer, world, rows):
    before = an_event(rows, "Old news", severity="good").id
    an_event(rows, "Chatter")
    fresh = an_event(rows, "Filled: buy 1 BTC/USD", severity="good", link="/books/fills")
    answer = viewer.get(f"/toasts?after={before}")
    assert "Filled: buy 1 BTC/USD" in answer.text
    assert "Chatter" not in answer.text
    assert "Old news" not in answer.text
    assert f"after={fresh.id}" in answer.text
    assert viewer.get(f"/toasts?after={fresh.id}").status_code == 204


def test_a_burst_of_news_is_three_toasts_and_a_count(viewer, world, rows):
    for n in range(10):
        an_event(rows, f"Fill number {n}", severity="good")
    text = viewer.get("/toasts?after=0").text
    assert text.count("Fill number") == 3
    assert "7 more things happened" in text


def test_bad_news_waits_to_be_closed_and_a_losing_fill_does_not(viewer, world, rows):
    an_event(rows, "Strategy failed", severity="bad", kind="strategy.failed")
    an_event(rows, "Sold at a loss", severity="bad", kind="fill")
    text = viewer.get("/toasts?after=0").text
    failed, loss = text.split("Sold at a loss")[0], text.split("Strategy failed")[1]
    assert 'data-leaves="no"' in failed
    assert 'data-leaves="yes"' in loss


# First steps -------------------------------------------------------------------------------------


def a_fresh_installation(rows):
    account = an_account(rows)
    instrument = an_instrument(rows, "BTC/USD")
    a_type(rows, "moving_average_cross")
    rows.commit()
    return account, instrument


def test_a_first_user_is_offered_a_strategy_and_sample_data(trader, rows):
    a_fresh_installation(rows)
    page = trader.get("/").text
    assert "Start a first strategy" in page
    assert "Load sample data" in page


def test_without_an_account_the_page_waits_for_the_engine(trader):
    assert "Waiting for the engine" in trader.get("/").text


def test_one_press_asks_for_a_running_strategy_that_the_rules_allow(trader, rows):
    _, instrument = a_fresh_installation(rows)
    trader.post("/first-strategy")
    rows.rollback()
    row = rows.scalars(sa.select(CommandRow)).one()
    command = decode(row.kind, row.arguments)
    assert isinstance(command, CreateStrategy)
    assert command.start is True
    assert command.inputs["main"]["instrument_id"] == instrument.id
    assert Decimal(command.allocation) <= Decimal(1000) * Decimal("0.05")


def test_loading_sample_data_asks_for_one_job_however_often_the_form_is_sent(trader, rows):
    form = {"command_id": "3f0a4d0e-0000-4000-8000-000000000001"}
    for _ in range(2):
        assert trader.post("/sample-data", data=form).status_code == 303
    [job] = rows.scalars(sa.select(JobRow))
    assert (job.kind, job.requested_by) == ("sample_data", "trader")
    assert "A worker is loading the sample data" in trader.get("/").text


def test_the_first_steps_are_ticked_off_one_by_one(trader, rows):
    account, instrument = a_fresh_installation(rows)
    a_strategy(rows, account, instrument, "First", type="moving_average_cross",
               code_hash="hash-moving_average_cross")  # fmt: skip
    an_instrument(rows, "AAPL", venue="replay")
    rows.commit()
    page = trader.get("/overview/first-steps").text
    assert page.count('class="is-done"') == 2
    assert "Start a first strategy" not in page


# Charts ------------------------------------------------------------------------------------------


def test_equity_comes_with_its_drawdown_below_the_peak_before(viewer, world, rows):
    equity(rows, world.account, {NOON + timedelta(hours=n): str(e)
                                 for n, e in ((1, 1100), (2, 990), (3, 1045))})  # fmt: skip
    rows.commit()
    data = viewer.get("/charts/equity.json?range=all").json
    assert data["equity"] == [1000.0, 1004.95, 1100.0, 990.0, 1045.0]
    assert data["drawdown"] == pytest.approx([0, 0, 0, -0.1, -0.05])
    assert data["times"] == sorted(data["times"])


def test_a_long_equity_line_is_thinned_and_keeps_its_ends(viewer, world, rows):
    many = {NOON + timedelta(seconds=n): str(1000 + n % 7) for n in range(1, 3 * charts.POINTS)}
    equity(rows, world.account, many)
    rows.commit()
    data = viewer.get("/charts/equity.json?range=1h").json
    assert charts.POINTS / 2 < len(data["times"]) <= charts.POINTS + 1
    assert data["times"][-1] == max(many).timestamp()


def test_an_unknown_range_is_refused_in_words(viewer, world):
    answer = viewer.get("/charts/equity.json?range=century")
    assert answer.status_code == 400
    assert "use one of 1h, 1d" in answer.text


def test_candles_carry_own_trades_and_the_lines_of_working_orders(viewer, world):
    data = viewer.get(f"/charts/candles/{world.btc.id}.json?interval=60").json
    assert len(data["candles"]) == 90
    assert data["candles"][-1] == [int((NOON - timedelta(minutes=1)).timestamp()), 188.0, 190.0, 187.0, 189.0, 5.0]  # fmt: skip
    assert [m["side"] for m in data["markers"]] == ["buy"]
    assert {(line["text"], line["price"]) for line in data["lines"]} == {
        ("stop loss", 90.0),
        ("average", 100.0),
    }
    assert data["decimals"] == 2


def test_coarser_candles_are_made_of_whole_finer_ones(viewer, world):
    data = viewer.get(f"/charts/candles/{world.btc.id}.json?interval=3600").json["candles"]
    by_time = {datetime.fromtimestamp(t, UTC).hour: row for t, *row in data}
    # 11:00 to 12:00 are the last sixty one-minute bars: closes 130 to 189
    assert by_time[11] == [129.0, 190.0, 128.0, 189.0, 300.0]


def test_candles_before_a_time_are_older_than_it(viewer, world):
    until = (NOON - timedelta(minutes=30)).timestamp()
    data = viewer.get(f"/charts/candles/{world.btc.id}.json?interval=60&before={until}").json
    assert len(data["candles"]) == 60
    assert all(row[0] < until for row in data["candles"])
