"""`seraphim`: quick help, one exit code per kind of trouble, all settings problems at once."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cli import COMMANDS, main
from deploy.exits import MEANINGS, Exit
from shared.settings import ROOT, VARIABLES


@pytest.fixture
def clean(monkeypatch, tmp_path) -> Path:
    """An environment that says nothing but where the home is."""
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("SERAPHIM_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_help_names_every_command_and_imports_nothing_heavy():
    program = (
        "import sys\nfrom deploy.cli import main\ntry: main(['--help'])\n"
        "finally: print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    *help_text, modules = done.stdout.splitlines()
    assert all(any(line.strip().startswith(name) for line in help_text) for name in COMMANDS)
    heavy = {"sqlalchemy", "flask", "pandas", "numpy", "redis", "alembic", "shared", "structlog"}
    heavy |= {"numba", "pyarrow", "optuna", "apprise", "engine", "webapp"}
    assert heavy & set(modules.split()) == set()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself(name, capsys, clean):
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert f"usage: seraphim {name}" in capsys.readouterr().out


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["fly"])
    assert caught.value.code == Exit.USAGE
    assert "fly" in capsys.readouterr().err


def test_all_settings_problems_are_printed_at_once(clean, monkeypatch, capsys):
    monkeypatch.setenv("PORT", "x")
    monkeypatch.setenv("SERAPHIM_WORKERS", "many")
    assert main(["doctor"]) == Exit.SETTINGS
    said = capsys.readouterr().err
    assert "PORT=x" in said
    assert "SERAPHIM_WORKERS=many" in said


def test_the_help_of_up_lists_every_exit_code(clean, capsys):
    with pytest.raises(SystemExit):
        main(["up", "--help"])
    said = capsys.readouterr().out
    assert set(MEANINGS) == set(Exit)
    assert all(f"{int(code):>3}  {meaning}" in said for code, meaning in MEANINGS.items())
