"""The four ways to install: wheel, sdist, editable, plain. Built for real, without a network.

A copy of the checkout is built and installed into environments of their own. The running interpreter's
site-packages come last on their path: dependencies are found there, its fcos-edge is not.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from fcos_edge import __version__
from tests.conftest import REPO_ROOT

LINKED = ("train", "quantize", "runtimes")
SOURCES = (
    "fcos_edge", *LINKED, "pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE",
)  # fmt: skip
MAX_WHEEL_BYTES = 10_000_000


def _run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    # No PYTHONPATH, no user site, no index: what is tested is the checkout and nothing around it.
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(cwd),
        "PYTHONNOUSERSITE": "1",
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    # One second on a free machine; the limit is for a busy one.
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600,
    )  # fmt: skip


def _succeed(*command: str | Path, cwd: Path) -> str:
    result = _run(*command, cwd=cwd)
    assert result.returncode == 0, f"{' '.join(map(str, command))}\n{result.stdout}"
    return result.stdout


def _copy_checkout(folder: Path) -> Path:
    folder.mkdir()
    for name in SOURCES:
        source = REPO_ROOT / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, folder / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy2(source, folder / name)
    return folder


def _package_files(checkout: Path) -> set[str]:
    """Every file that an installation must have, as `fcos_edge/...`, found through the links."""
    found = set()
    for folder, _, names in os.walk(checkout / "fcos_edge", followlinks=True):
        for name in names:
            path = Path(folder, name).relative_to(checkout)
            is_data = path.parts[1] in ("models", "golden_pictures")
            is_data |= path.parts[1:3] in (("doctor", "models"), ("report", "templates"))
            if path.suffix == ".py" or name == "py.typed" or is_data:
                found.add(path.as_posix())
    return found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _copy_checkout(tmp_path_factory.mktemp("packaging") / "checkout")


@pytest.fixture(scope="module")
def built(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist and the wheel that was built from that sdist, not from the checkout."""
    out = tmp_path_factory.mktemp("dist")
    _succeed(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, checkout, cwd=out)
    return out


def _wheel(folder: Path) -> Path:
    (path,) = folder.glob("*.whl")
    return path


def _wheel_names(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


class _Environment:
    """An empty virtual environment that sees the running interpreter's packages behind its own."""

    def __init__(self, folder: Path, *install: str | Path) -> None:
        folder.mkdir(exist_ok=True)
        venv.create(folder / "env", with_pip=False, symlinks=True)
        self.folder = folder
        self.python = folder / "env" / "bin" / "python"
        # A path named in a .pth file is appended, and the .pth files in it (the editable install that runs
        # these tests has one) are not read.
        (site_packages,) = (folder / "env").glob("lib/python*/site-packages")
        (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        # ignore-installed: pip sees the fcos-edge that runs these tests, and would remove it.
        _succeed(
            sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet", "--no-deps",
            "--no-build-isolation", "--ignore-installed", *install, cwd=folder,
        )  # fmt: skip

    def run(self, code: str) -> str:
        return _succeed(self.python, "-c", code, cwd=self.folder)

    def locate(self) -> dict[str, str]:
        """Where fcos_edge and the three linked packages come from."""
        modules = ["fcos_edge", *(f"fcos_edge.{name}" for name in LINKED)]
        code = (
            "import importlib.util, json; "
            f"print(json.dumps({{m: importlib.util.find_spec(m).origin for m in {modules!r}}}))"
        )
        located: dict[str, str] = json.loads(self.run(code))
        return located


@pytest.fixture(scope="module")
def plain(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> _Environment:
    """`pip install .`"""
    return _Environment(tmp_path_factory.mktemp("plain"), checkout)


@pytest.fixture(scope="module")
def editable(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> _Environment:
    """`pip install -e .`"""
    return _Environment(tmp_path_factory.mktemp("editable"), "-e", checkout)


def test_wheel__holds_every_source_and_data_file(built: Path, checkout: Path) -> None:
    missing = _package_files(checkout) - _wheel_names(_wheel(built))
    assert not missing


def test_wheel__holds_nothing_but_the_package(built: Path, checkout: Path) -> None:
    names = _wheel_names(_wheel(built))
    assert {name.split("/")[0] for name in names} == {"fcos_edge", f"fcos_edge-{__version__}.dist-info"}
    assert {name for name in names if name.startswith("fcos_edge/")} == _package_files(checkout)


@pytest.mark.parametrize("pattern", [
    "fcos_edge/py.typed",
    "fcos_edge/train/*.py",
    "fcos_edge/quantize/formats/*.py",
    "fcos_edge/runtimes/*.py",
    "fcos_edge/models/*.safetensors",  # the embedded detector
    "fcos_edge/models/*.md",  # and its model card
    "fcos_edge/golden_pictures/*.png",
    "fcos_edge/golden_pictures/LICENSE",
    "fcos_edge/doctor/models/*/*.onnx",
    "fcos_edge/doctor/models/*/expected.npz",
    "fcos_edge/report/templates/*.css",  # every page holds it
    "*.dist-info/licenses/LICENSE",
    "*.dist-info/licenses/NOTICE",
])  # fmt: skip
def test_wheel__has(built: Path, pattern: str) -> None:
    assert [name for name in _wheel_names(_wheel(built)) if Path(name).match(pattern)]


def test_wheel__is_small(built: Path) -> None:
    assert _wheel(built).stat().st_size <= MAX_WHEEL_BYTES


@pytest.mark.parametrize("extra", ["onnx", "openvino", "tflite", "tflite-runtime"])
def test_wheel__extra_of_a_device_is_never_empty(built: Path, extra: str) -> None:
    """A marker would let pip install nothing where a runtime has no wheel, and say nothing."""
    with zipfile.ZipFile(_wheel(built)) as archive:
        metadata = archive.read(f"fcos_edge-{__version__}.dist-info/METADATA").decode()
    lines = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    markers = [line.partition(";")[2].strip() for line in lines if f'extra == "{extra}"' in line]
    assert markers
    assert set(markers) == {f'extra == "{extra}"'}


def test_wheel__from_the_checkout_equals_that_from_the_sdist(
    built: Path, checkout: Path, tmp_path: Path
) -> None:
    _succeed(
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--wheel",
        "--outdir",
        tmp_path,
        checkout,
        cwd=tmp_path,
    )
    assert _wheel_names(_wheel(tmp_path)) == _wheel_names(_wheel(built))


def test_sdist__holds_real_files_and_no_links(built: Path, checkout: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    assert not [member.name for member in members if member.issym() or member.islnk()]
    names = {member.name.partition("/")[2] for member in members}
    assert _package_files(checkout) <= names


def test_plain_install__imports_from_site_packages(plain: _Environment) -> None:
    for origin in plain.locate().values():
        assert origin.startswith(str(plain.folder / "env"))


def test_editable_install__imports_from_the_checkout(editable: _Environment, checkout: Path) -> None:
    located = editable.locate()
    assert located["fcos_edge"] == str(checkout / "fcos_edge" / "__init__.py")
    for name in LINKED:
        assert Path(located[f"fcos_edge.{name}"]).resolve() == checkout / name / "__init__.py"


@pytest.mark.parametrize("kind", ["plain", "editable"])
def test_install__has_no_generic_module(kind: str, request: pytest.FixtureRequest) -> None:
    # Somebody else's package may install such a name: only what comes from elsewhere is ours.
    code = f"""
from importlib.util import find_spec
for name in {(*LINKED, "tests", "examples", "benchmarks", "setup")!r}:
    if spec := find_spec(name):
        for place in spec.submodule_search_locations or [spec.origin]:
            if not place.startswith({sysconfig.get_path("purelib")!r}):
                print(place)
"""
    assert request.getfixturevalue(kind).run(code) == ""


@pytest.mark.parametrize("kind", ["plain", "editable"])
def test_install__import_knows_its_version(kind: str, request: pytest.FixtureRequest) -> None:
    environment: _Environment = request.getfixturevalue(kind)
    code = "import fcos_edge, importlib.metadata as m; print(fcos_edge.__version__, m.version('fcos-edge'))"
    assert environment.run(code).split() == [__version__, __version__]


@pytest.mark.parametrize("kind", ["plain", "editable"])
def test_install__has_the_command(kind: str, request: pytest.FixtureRequest) -> None:
    environment: _Environment = request.getfixturevalue(kind)
    command = environment.folder / "env" / "bin" / "fcos-edge"
    assert "export" in _succeed(command, "--help", cwd=environment.folder)


@pytest.mark.parametrize("kind", ["plain", "editable"])
def test_install__pytest_has_the_plugin(kind: str, request: pytest.FixtureRequest) -> None:
    environment: _Environment = request.getfixturevalue(kind)
    assert "--fcos-bundle" in _succeed(
        environment.python, "-m", "pytest", "-p", "no:anyio", "--help", cwd=environment.folder
    )


def _unlink(checkout: Path, text: str | None = None) -> None:
    """Plain files in place of the links: a ZIP's, with the link's target as text, or with another text."""
    for name in LINKED:
        link = checkout / "fcos_edge" / name
        target = os.readlink(link)
        link.unlink()
        link.write_text(text or target)


def _build_wheel(checkout: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """`pip wheel` as in the README, in `folder`."""
    return _run(
        sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", checkout, cwd=folder
    )  # fmt: skip


def test_zip__gives_the_same_wheel(built: Path, tmp_path: Path) -> None:
    _unlink(_copy_checkout(tmp_path / "zip"))
    result = _build_wheel(tmp_path / "zip", tmp_path)
    assert result.returncode == 0, result.stdout
    assert _wheel_names(_wheel(tmp_path)) == _wheel_names(_wheel(built))


def test_zip__as_an_archive_installs(tmp_path: Path) -> None:
    # pip unpacks it itself, and makes no links.
    checkout = _copy_checkout(tmp_path / "fcos-edge-main")
    _unlink(checkout)
    archive = shutil.make_archive(str(tmp_path / "main"), "zip", tmp_path, checkout.name)
    for origin in _Environment(tmp_path / "installed", archive).locate().values():
        assert origin.startswith(str(tmp_path / "installed" / "env"))


def test_zip__editable_install_imports_from_the_folder(tmp_path: Path) -> None:
    checkout = _copy_checkout(tmp_path / "zip")
    _unlink(checkout)
    located = _Environment(tmp_path / "installed", "-e", checkout).locate()
    assert Path(located["fcos_edge.runtimes"]).resolve() == checkout / "runtimes" / "__init__.py"


def test_zip__links_that_cannot_be_made_fail_in_one_line(tmp_path: Path) -> None:
    checkout = _copy_checkout(tmp_path / "zip")
    _unlink(checkout)
    shutil.rmtree(checkout / "quantize")
    result = _build_wheel(checkout, tmp_path)
    assert result.returncode != 0
    (line,) = [line for line in result.stdout.splitlines() if "fcos-edge: " in line]
    assert "fcos_edge/quantize is not a link to ../quantize, and cannot be made one" in line
    assert "git clone" in line
    assert "Traceback" not in result.stdout


def test_zip__another_file_in_a_links_place_is_kept(tmp_path: Path) -> None:
    checkout = _copy_checkout(tmp_path / "zip")
    _unlink(checkout, text="somebody's own")
    assert _build_wheel(checkout, tmp_path).returncode != 0
    assert (checkout / "fcos_edge" / "train").read_text() == "somebody's own"


def test_wheel__after_an_earlier_build_holds_no_removed_module(tmp_path: Path) -> None:
    checkout = _copy_checkout(tmp_path / "checkout")
    removed = checkout / "fcos_edge" / "removed.py"
    removed.touch()
    for is_present in (True, False):
        result = _build_wheel(checkout, tmp_path)
        assert result.returncode == 0, result.stdout
        assert ("fcos_edge/removed.py" in _wheel_names(_wheel(tmp_path))) is is_present
        removed.unlink(missing_ok=True)


@pytest.mark.parametrize("name", LINKED)
def test_top_level_import__fails_in_tests(name: str) -> None:
    with pytest.raises(ImportError, match=rf"import fcos_edge\.{name}, not {name}"):
        __import__(name)
