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


def test_a_backtest_does_not_wait_for_pandas():
    code = (
        "import sys, deploy.commands.backtest, engine.backtest.job; print('pandas' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "False\n", done.stderr


LEAVING = """
import atexit, threading, time
from deploy import cli
cli.main = lambda: 7
atexit.register(print, "cleared up")
def work():
    time.sleep(0.2)
    print("worked to the end")
if {works}:
    threading.Thread(target=work).start()
print("said", end=" ")
cli.script()
"""


@pytest.mark.parametrize(
    ("works", "said"),
    [(False, "said cleared up\n"), (True, "said worked to the end\ncleared up\n")],
)
def test_a_process_is_left_with_everything_said_and_done(works, said):
    done = subprocess.run(
        [sys.executable, "-c", LEAVING.format(works=works)],
        cwd=ROOT, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (7, said, "")


def test_a_process_that_nobody_listens_to_ends_as_it_should():
    code = LEAVING.format(works=False).replace("print(", "(lambda *a, **k: None)(")
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, code],
        cwd=ROOT, stderr=subprocess.PIPE, timeout=30,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (7, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_what_cannot_be_written_is_no_success():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", LEAVING.format(works=False).replace("7", "0")],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, timeout=30,
        )  # fmt: skip
    assert done.returncode != 0
