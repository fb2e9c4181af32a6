"""The wheel holds the package and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_wheel_ships_the_package_without_its_tests(tmp_path: Path):
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "*.duckdb*", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignored)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index",
         "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)],
        check=True, timeout=120,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {str(file.relative_to(ROOT)) for file in (ROOT / "analytics_dagster").rglob("*") if file.is_file()}
    assert names == {name for name in files if "__pycache__" not in name}
