"""Settings: every variable checked, all problems at once, nothing undocumented."""

import re
import stat
from pathlib import Path

import pytest

from shared.settings import ROOT, VARIABLES, Settings, SettingsError, read_env_file


def load(tmp_path: Path, **env: str) -> Settings:
    return Settings.from_env({"SERAPHIM_HOME": str(tmp_path), **env})


def test_an_empty_environment_is_a_complete_installation(tmp_path):
    settings = load(tmp_path)
    assert settings.database_url is None
    assert settings.redis_url is None
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.strategies_folder == tmp_path / "strategies"
    assert not settings.live_trading
    assert not settings.cookie_secure
    assert settings.console_url == "http://127.0.0.1:8000/"


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("DATABASE_URL", "mysql://u:pw@h/d", "postgresql:// URL"),
        ("DATABASE_URL", "postgresql://u:pw@h", "names no database"),
        ("REDIS_URL", "http://h", "redis:// URL"),
        ("SERAPHIM_HOST", "http://h/", "an address"),
        ("PORT", "eight", "whole number from 1 to 65535"),
        ("PORT", "0", "whole number from 1 to 65535"),
        ("PORT", "65536", "whole number from 1 to 65535"),
        ("SERAPHIM_SECRET_KEY", "short", "at least 32 characters"),
        ("SERAPHIM_ENGINE_GROUP", "a b", "letters, digits"),
        ("SERAPHIM_LIVE_TRADING", "1", "yes or no"),
        ("SERAPHIM_LIVE_TRADING", "YES", "yes or no"),
        ("SERAPHIM_TIMEZONE", "Mars/Olympus", "time zone's name"),
        ("SERAPHIM_TIMEZONE", "../../etc/passwd", "time zone's name"),
        ("SERAPHIM_SIMULATED_SPEED", "0", "above 0"),
        ("SERAPHIM_SIMULATED_SPEED", "nan", "above 0"),
        ("SERAPHIM_SIMULATED_SPEED", "3601", "up to 3600"),
        ("SERAPHIM_SIMULATED_SEED", "-1", "whole number"),
        ("SERAPHIM_WORKERS", "0", "whole number from 1 to 64"),
        ("SERAPHIM_LOG_LEVEL", "loud", "debug, info, warning, error"),
        ("SERAPHIM_LOG_FORMAT", "xml", "console, json"),
        ("SERAPHIM_COOKIE_SECURE", "maybe", "yes or no"),
    ],
)
def test_a_wrong_value_is_refused_with_its_remedy(tmp_path, variable, value, remedy):
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, **{variable: value})
    [problem] = caught.value.problems
    assert problem.startswith(f"{variable}=")
    assert remedy in problem


def test_all_problems_are_reported_together(tmp_path):
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, PORT="x", SERAPHIM_TIMEZONE="x", SERAPHIM_WORKERS="x")
    assert [p.split("=")[0] for p in caught.value.problems] == [
        "PORT",
        "SERAPHIM_TIMEZONE",
        "SERAPHIM_WORKERS",
    ]


def test_a_refused_secret_is_not_shown(tmp_path):
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, DATABASE_URL="mysql://u:hunter2@h/d", SERAPHIM_SECRET_KEY="hunter2")
    assert "hunter2" not in str(caught.value)


def test_secrets_stay_out_of_the_representation(tmp_path):
    settings = load(tmp_path, DATABASE_URL="postgres://u:hunter2@h/d")
    assert "hunter2" not in repr(settings)
    assert settings.secret_key not in repr(settings)


@pytest.mark.parametrize("prefix", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_a_database_url_becomes_one(tmp_path, prefix):
    settings = load(tmp_path, DATABASE_URL=f"{prefix}://u:p@h:5/d?x=1")
    assert settings.database_url == "postgresql+psycopg://u:p@h:5/d?x=1"


def test_the_secret_key_is_made_once_for_our_eyes_only(tmp_path):
    first, second = load(tmp_path), load(tmp_path)
    assert first.secret_key == second.secret_key
    assert len(first.secret_key) >= 32
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["secret_key"]


def test_a_home_that_cannot_be_written_is_a_problem_with_a_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"SERAPHIM_HOME=.*Name a folder"):
        load(tmp_path / "file" / "home")


def test_cookies_are_secure_wherever_the_console_is_reached_from_outside(tmp_path):
    assert load(tmp_path, SERAPHIM_HOST="0.0.0.0").cookie_secure
    assert not load(tmp_path, SERAPHIM_HOST="localhost").cookie_secure
    assert not load(tmp_path, SERAPHIM_HOST="0.0.0.0", SERAPHIM_COOKIE_SECURE="no").cookie_secure


def test_only_the_word_yes_allows_live_trading(tmp_path):
    assert load(tmp_path, SERAPHIM_LIVE_TRADING="yes").live_trading
    assert not load(tmp_path, SERAPHIM_LIVE_TRADING="no").live_trading


def test_the_environment_wins_over_the_env_file(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text(
        f"SERAPHIM_HOME={tmp_path / 'home'}\nPORT=1111\nSERAPHIM_WORKERS=3\n"
    )
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PORT", "2222")
    settings = Settings.load(tmp_path)
    assert (settings.port, settings.workers) == (2222, 3)


def test_an_env_file_understands_comments_quotes_and_export(tmp_path):
    file = tmp_path / ".env"
    file.write_text("# a comment\n\nexport A=1\nB='two # 2' \nC=three # 3\nD=\n E = \"x\"\n")
    assert read_env_file(file) == {"A": "1", "B": "two # 2", "C": "three", "D": "", "E": "x"}


def test_a_line_of_an_env_file_that_means_nothing_is_refused(tmp_path):
    (tmp_path / ".env").write_text("PORT=1\nnonsense\n")
    with pytest.raises(SettingsError, match=r"line 2: 'nonsense'"):
        read_env_file(tmp_path / ".env")


def test_every_setting_is_in_the_example_file_and_nothing_else_is():
    documented = re.findall(r"^# ([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(VARIABLES.values())


def test_the_example_shows_the_defaults(tmp_path):
    example = (ROOT / ".env.example").read_text()
    shown = dict(re.findall(r"^# ([A-Z_]+)=(\S+)$", example, re.MULTILINE))
    shown["SERAPHIM_HOME"] = str(tmp_path)
    assert Settings.from_env(shown) == load(tmp_path)


STAND_INS = {"engine/lookahead/clocks.py"}
"""Stands in for os.environ while a strategy is examined, and tells when the strategy reads it."""


def test_only_the_settings_read_the_environment():
    readers = {
        file.relative_to(ROOT).as_posix()
        for folder in ("shared", "engine", "webapp")
        for file in (ROOT / folder).rglob("*.py")
        if re.search(r"os\.environ|os\.getenv", file.read_text())
    }
    assert readers == {"shared/settings.py"} | STAND_INS
