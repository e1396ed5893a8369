"""The way of a file as a user goes it: chosen, its columns put right, imported, its coverage seen."""

import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from shared.db.backtests import JobRow
from tests.webapp.history import do_job, newest_job
from tests.webapp.test_in_a_browser import address, console

pytestmark = pytest.mark.browser
fixtures = (address, console)

ODD = "Date,Auf,High,Low,Close,Volume\n" + "".join(
    f"2024-01-{day:02},10,11,9,10.{day:02},100\n" for day in range(2, 13)
)


def test_upload_then_mapping_then_coverage(console, app, rows, settings, tmp_path):
    app.config["JOB_WAIT_SECONDS"] = 0
    file = tmp_path / "ACME.csv"
    file.write_text(ODD)
    console.goto(f"{console.address}/data/import")
    console.set_input_files("#f-file", file)
    console.get_by_role("button", name="Look at the file").click()
    expect(console.get_by_text("Waiting for a worker")).to_be_visible()
    do_job(settings, newest_job(rows, "inspect").id)
    expect(console.get_by_text("no column for open was found")).to_be_visible()
    expect(console.get_by_role("button", name="Import 11 rows")).to_be_disabled()
    console.get_by_label("Open", exact=True).select_option("Auf")
    console.get_by_role("button", name="Look again").click()
    expect(console.get_by_text("Waiting for a worker")).to_be_visible()
    do_job(settings, newest_job(rows, "inspect").id)
    console.get_by_role("button", name="Import 11 rows").dblclick()
    console.wait_for_url("**/jobs/*")
    rows.rollback()
    asked = sa.select(sa.func.count()).select_from(JobRow).where(JobRow.kind == "import")
    assert rows.scalar(asked) == 1
    do_job(settings, newest_job(rows, "import").id)
    console.get_by_role("link", name="Open the series").click()
    expect(console.locator("#coverage table.heat")).to_be_visible()
    assert console.locator("#coverage").inner_text().count("Holes") == 1
