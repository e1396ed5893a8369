"""What a fresh clone is built from: locked, hashed, and bound to no registry."""

import json
import re
import tomllib

import pytest

from shared.settings import ROOT

LOCKS = ("requirements.lock", "requirements-test.lock", "requirements-node.lock")


def locked(name: str) -> dict[str, str]:
    """Package -> its part of the lock file."""
    parts = re.split(r"^(?=[a-z0-9])", (ROOT / name).read_text(), flags=re.MULTILINE)[1:]
    return {part.partition("==")[0]: part for part in parts}


def normal(requirement: str) -> str:
    return re.split(r"[\[>;= ]", requirement)[0].lower().replace("_", "-")


@pytest.mark.parametrize("name", [*LOCKS, "package-lock.json"])
def test_no_lock_file_names_a_registry(name):
    assert not re.search(r"https?://|--(extra-)?index-url|find-links", (ROOT / name).read_text())


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes(name):
    packages = locked(name)
    assert packages
    assert [package for package, part in packages.items() if "--hash=sha256:" not in part] == []


def test_every_dependency_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {normal(name) for name in project["project"]["dependencies"]}
    assert wanted - set(locked("requirements.lock")) == set()
    groups = project["dependency-groups"]
    wanted |= {normal(name) for group in groups.values() for name in group}
    assert wanted - set(locked("requirements-test.lock")) == set()


def test_tests_run_on_the_versions_that_users_get():
    def versions(name: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9][^ ]*==[^ ]+", (ROOT / name).read_text(), re.MULTILINE))

    assert versions("requirements.lock") - versions("requirements-test.lock") == set()


def test_every_front_end_package_is_pinned_and_verified():
    wanted = json.loads((ROOT / "package.json").read_text())["dependencies"]
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    for name, version in wanted.items():
        assert packages[f"node_modules/{name}"]["version"] == version
    for path, package in packages.items():
        assert not path or package["integrity"].startswith("sha512-")


def test_the_procfile_holds_the_processes_of_the_architecture():
    from deploy.children import procfile

    assert set(procfile(ROOT / "Procfile")) == {"web", "engine", "worker", "clock", "release"}
