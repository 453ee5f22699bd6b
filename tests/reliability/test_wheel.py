"""The wheel: a failure here hides an installed package that lacks files which the source tree has.

The wheel is built, installed into an empty environment that sees the dependencies of this one but not its editable
install, and used from there.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import equipoise

pytestmark = pytest.mark.slow
NO_BACK_END = ("No matching distribution", "Could not find a version", "ConnectionError", "Failed to establish")


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """The built wheel; skips where the build back end can be had neither here nor from an index."""
    folder = tmp_path_factory.mktemp("wheel")
    build = run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", folder, root, cwd=folder)
    output = build.stdout + build.stderr
    if build.returncode and "hatchling" in output and any(text in output for text in NO_BACK_END):
        pytest.skip("the build back end hatchling cannot be had: no index within reach")
    assert build.returncode == 0, output
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment's programs, with the wheel installed. A nested .pth is not followed, so the editable
    install of this environment stays out of sight."""
    home = tmp_path_factory.mktemp("environment")
    assert run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home).returncode == 0
    programs = home / "bin"
    paths = run(programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home)
    Path(paths.stdout.strip(), "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", "--python", programs / "python")
    done = run(*pip, "install", "-q", "--no-deps", "--no-index", wheel, cwd=home)
    assert done.returncode == 0, done.stderr
    return programs


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel: Path, root: Path) -> None:
    source = root / "src"
    files = [p for p in source.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    ours = {p.relative_to(source).as_posix() for p in files}
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == ours
    assert "equipoise/py.typed" in packed


def test_the_installed_package_is_whole(installed: Path, tmp_path: Path) -> None:
    program = """
import importlib, importlib.metadata, pkgutil, sys
import equipoise
print(equipoise.__file__)
assert importlib.metadata.version("equipoise") == equipoise.__version__
for module in pkgutil.walk_packages(equipoise.__path__, "equipoise."):
    if not module.name.endswith(("__main__", "lif_triton")):  # the kernels need Triton, and only a GPU needs them
        importlib.import_module(module.name)
loaded = {"sklearn", "matplotlib", "pyarrow", "PIL", "tyro"} & set(sys.modules)
assert not loaded, loaded
"""
    done = run(installed / "python", "-W", "error", "-c", program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(installed.parent)


def test_the_installed_command_runs(installed: Path, tmp_path: Path) -> None:
    done = run(installed / "equipoise", "list", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "shallow" in done.stdout
    assert not list(tmp_path.iterdir())


def test_the_version_of_the_citation_is_the_package_s(root: Path) -> None:
    assert f"\nversion: {equipoise.__version__}\n" in (root / "CITATION.cff").read_text()
