"""What people get who install a wheel, and what the repository promises about itself."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dida_cli import __version__

ROOT = Path(__file__).parent.parent


def run(*command: object, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, unpacked into an empty directory by pip."""
    made = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", made, cwd=ROOT)
    (wheel,) = made.glob("*.whl")
    target = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    run(*pip, "--target", target, wheel, cwd=made)
    return target


def test_the_installed_wheel_transfers_away_from_the_checkout(
    installed: Path, tmp_path: Path
) -> None:
    for name in ("glasses.png", "smile.png"):
        (tmp_path / name).write_bytes((ROOT / "examples" / name).read_bytes())
    where = run(
        sys.executable,
        "-c",
        "import dida_cli; from dida_cli import hub; print(dida_cli.__file__, hub.BUNDLED)",
        cwd=tmp_path,
        PYTHONPATH=str(installed),
    )
    assert where.count(str(installed)) == 2
    command = "-m dida_cli transfer --content glasses.png --guide-a smile.png --out result.png"
    out = run(sys.executable, *command.split(), cwd=tmp_path, PYTHONPATH=str(installed))
    assert out == "result.png\n" and (tmp_path / "result.png").stat().st_size > 1000


def test_the_interface_of_the_wheel_edits(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "smile.png").write_bytes((ROOT / "examples" / "smile.png").read_bytes())
    program = (
        "import dida_cli\n"
        "edit = dida_cli.load('avatars-smile-glasses').remove('smile.png', 'smile')\n"
        "edit.save('o.png')\n"
        "print(edit.image.size == edit.mask.size)"
    )
    out = run(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=str(installed))
    assert out == "True\n" and (tmp_path / "o.png").stat().st_size > 1000


def test_the_wheel_holds_the_types_the_licence_and_the_command(installed: Path) -> None:
    assert (installed / "dida_cli" / "py.typed").exists()
    assert list((installed / "dida_cli" / "recipes").glob("*.toml"))
    assert (installed / "bin" / "dida").exists()
    assert list(installed.rglob("LICENSE"))


def test_the_version_is_the_newest_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)
    assert released[0] == __version__


def test_runtime_dependencies_are_floors() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "torch>=2.6" in project["dependencies"]
    for dependency in project["dependencies"]:
        assert re.fullmatch(r"[a-z-]+>=[\d.]+", dependency), dependency


def test_ci_runs_the_command_of_the_readme() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text().splitlines()
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme and "make test" in readme
