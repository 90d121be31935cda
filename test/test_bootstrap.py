"""Setup without its downloads: the repair of the wheels, the stamps, the checks and their words."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from alpamayo_ros.bootstrap import checks, commands, exports, stamps
from alpamayo_ros.bootstrap.build import Builder
from alpamayo_ros.bootstrap.environment import Environment

IMAGE = "/opt/python/cp3{0}-cp3{0}"


def export_of(minor: int) -> str:
    """A line of a wheel's export as the wheels of ROS for Python 3.`minor` have it."""
    image = IMAGE.format(minor)
    numpy = f"{image}/lib/python3.{minor}/site-packages/numpy/_core/include"
    return f'  INTERFACE_INCLUDE_DIRECTORIES "{image}/include/python3.{minor};{numpy}"\n'


class TestRepair:
    @pytest.mark.parametrize("minor", [10, 11, 12, 13, 14])
    def test_both_folders_are_replaced(self, minor: int) -> None:
        repaired = exports.repair_text(export_of(minor), "/usr/include/python3", "/site/numpy/inc")
        expected = '  INTERFACE_INCLUDE_DIRECTORIES "/usr/include/python3;/site/numpy/inc"\n'
        assert repaired == expected

    def test_older_numpy_and_a_free_threaded_build(self) -> None:
        text = "/opt/python/cp313-cp313t/lib/python3.13t/site-packages/numpy/core/include"
        assert exports.repair_text(text, "P", "N") == "N"

    def test_backslashes_in_a_path_stay(self) -> None:
        assert exports.repair_text(export_of(11), r"/a\1b", "/n").count(r"/a\1b") == 1

    def test_other_text_stays(self) -> None:
        text = 'set(x "/opt/python/cp311-cp311/include/python3.11extra;/opt/pythons/include")'
        assert exports.repair_text(text, "P", "N") == text

    def test_files_below_share_and_a_second_run(self, tmp_path: Path) -> None:
        broken = tmp_path / "share" / "std_msgs" / "cmake" / "export.cmake"
        other = tmp_path / "lib" / "cmake" / "export.cmake"
        for file in (broken, other):
            file.parent.mkdir(parents=True)
            file.write_text(export_of(12))
        assert exports.repair_exports(tmp_path, "/p", "/n") == [broken]
        assert exports.repair_exports(tmp_path, "/p", "/n") == []
        assert "/opt/python" not in broken.read_text()
        assert other.read_text() == export_of(12)

    def test_a_hard_link_to_a_cache_is_not_written_through(self, tmp_path: Path) -> None:
        cached = tmp_path / "cached"
        cached.write_text(export_of(11))
        installed = tmp_path / "share" / "x" / "cmake" / "x.cmake"
        installed.parent.mkdir(parents=True)
        os.link(cached, installed)
        exports.repair_exports(tmp_path, "/p", "/n")
        assert cached.read_text() == export_of(11)


class TestStamps:
    def test_a_step_is_finished_failed_or_cut_off(self, tmp_path: Path) -> None:
        found = stamps.Stamps(tmp_path / "new")
        assert not found.matches("build", "k")
        found.begin("build")
        assert found.was_cut_off("build")
        found.finish("build", "k")
        assert found.matches("build", "k") and not found.was_cut_off("build")
        found.begin("build")
        found.fail("build")
        assert not found.matches("build", "k") and not found.was_cut_off("build")

    def test_parts_do_not_run_together(self) -> None:
        assert stamps.hash_of("ab", "c") != stamps.hash_of("a", "bc")

    def test_contents_and_names(self, tmp_path: Path) -> None:
        (tmp_path / "msg").mkdir()
        (tmp_path / "msg" / "A.msg").write_text("int32 a")
        folders = [tmp_path / "msg", tmp_path / "srv"]
        contents = stamps.hash_of_contents(tmp_path, folders)
        names = stamps.hash_of_names(tmp_path, folders)
        (tmp_path / "msg" / "A.msg").write_text("int64 a")
        assert stamps.hash_of_contents(tmp_path, folders) != contents
        assert stamps.hash_of_names(tmp_path, folders) == names
        (tmp_path / "msg" / "B.msg").touch()
        assert stamps.hash_of_names(tmp_path, folders) != names

    def test_what_python_caches_does_not_count(self, tmp_path: Path) -> None:
        names = stamps.hash_of_names(tmp_path, [tmp_path])
        (tmp_path / "__pycache__").mkdir()
        (tmp_path / "__pycache__" / "a.cpython-311.pyc").touch()
        assert stamps.hash_of_names(tmp_path, [tmp_path]) == names


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with what the keys of the steps read, on a machine with compilers."""
    for variable in ("CC", "CXX"):
        monkeypatch.setenv(variable, sys.executable)
    (tmp_path / "msg").mkdir()
    (tmp_path / "msg" / "A.msg").write_text("int32 a")
    (tmp_path / "alpamayo_ros").mkdir()
    (tmp_path / "alpamayo_ros" / "types.py").write_text("x = 1")
    settings = tmp_path / "config" / "plain_ros"
    settings.mkdir(parents=True)
    (settings / "requirements.txt").write_text("numpy")
    (settings / "requirements-dev.txt").write_text("pytest")
    (settings / "requirements-model.txt").write_text("torch")
    for major, minor in checks.SUPPORTED:
        (settings / f"constraints-py{major}{minor}.txt").write_text("numpy==2.0")
    return tmp_path


def finish_all(root: Path) -> None:
    """Leave in `root` what a setup leaves that did everything."""
    binaries = root / ".venv" / "bin"
    binaries.mkdir(parents=True, exist_ok=True)
    (binaries / "python").touch()
    environment = Environment(root)
    (root / ".venv" / "pyvenv.cfg").write_text(f"home = /x\nversion = {environment.version}\n")
    for step in environment.pending(dev=True):
        environment.stamps.finish(step.name, step.key)


def pending(root: Path, dev: bool = True) -> list[str]:
    return [step.name for step in Environment(root).pending(dev)]


class TestPending:
    for_use = ("venv", "packages", "repair", "entry_points", "build")
    everything = (*for_use, "packages_dev", "packages_model")

    def test_a_fresh_clone_needs_everything_and_then_nothing(self, checkout: Path) -> None:
        assert tuple(pending(checkout)) == self.everything
        assert tuple(pending(checkout, dev=False)) == self.for_use
        finish_all(checkout)
        assert pending(checkout) == []

    @pytest.mark.parametrize(
        ("file", "text", "steps"),
        [
            ("alpamayo_ros/types.py", "x = 2", []),
            ("alpamayo_ros/new.py", "x = 2", ["build"]),
            ("msg/A.msg", "int64 a", ["build"]),
            ("config/plain_ros/requirements-dev.txt", "mypy", ["packages_dev"]),
            ("config/plain_ros/requirements-model.txt", "onnx", ["packages_model"]),
            ("config/plain_ros/requirements.txt", "cmake", ["packages", "repair", "build"]),
        ],
    )
    def test_a_change_repeats_what_depends_on_it(
        self, checkout: Path, file: str, text: str, steps: list[str]
    ) -> None:
        finish_all(checkout)
        (checkout / file).write_text(text)
        assert pending(checkout) == steps

    def test_new_pins_install_all_packages_again(self, checkout: Path) -> None:
        finish_all(checkout)
        for file in checkout.glob("config/plain_ros/constraints-*"):
            file.write_text("numpy==2.1")
        assert pending(checkout) == [
            "packages",
            "repair",
            "build",
            "packages_dev",
            "packages_model",
        ]

    def test_a_killed_installation_starts_over(self, checkout: Path) -> None:
        """pip takes the package that it was unpacking for an installed one."""
        finish_all(checkout)
        Environment(checkout).stamps.begin("packages")
        assert tuple(pending(checkout)) == self.everything

    def test_a_killed_build_is_only_built_again(self, checkout: Path) -> None:
        finish_all(checkout)
        Environment(checkout).stamps.begin("build")
        assert pending(checkout) == ["build"]

    def test_a_machine_without_a_compiler_gets_one(
        self, checkout: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(checkout))
        for variable in ("CC", "CXX"):
            monkeypatch.delenv(variable)
        assert pending(checkout, dev=False) == [*self.everything[:4], "compiler", "build"]
        finish_all(checkout)
        assert pending(checkout) == []
        (checkout / "msg" / "A.msg").write_text("int64 a")
        assert pending(checkout) == ["build"]

    def test_a_moved_environment_starts_over(self, checkout: Path) -> None:
        """Its scripts name the place where they were made."""
        finish_all(checkout)
        moved = checkout.rename(checkout.with_name("moved"))
        assert tuple(pending(moved)) == self.everything

    def test_an_environment_whose_python_went_away_starts_over(self, checkout: Path) -> None:
        finish_all(checkout)
        (checkout / ".venv" / "bin" / "python").unlink()
        assert tuple(pending(checkout)) == self.everything

    def test_a_folder_that_is_no_environment_is_not_deleted(self, checkout: Path) -> None:
        precious = checkout / ".venv" / "notes.txt"
        precious.parent.mkdir()
        precious.touch()
        environment = Environment(checkout)
        with pytest.raises(checks.SetupError, match="is not a virtual environment: move it away"):
            environment.do(environment.pending(False)[0], commands.Progress(1))
        assert precious.exists()


class TestChecks:
    @pytest.mark.parametrize("version", [(3, 9), (3, 14)])
    def test_unsupported_python_names_one_that_is_there(
        self, version: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(checks.SetupError, match=r"for Python 3.10 to 3.13(.|\n)*PYTHON=/path"):
            checks.check_interpreter(version)
        (tmp_path / "python3.12").touch(mode=0o755)
        with pytest.raises(checks.SetupError, match=r"run `make setup PYTHON=python3.12`"):
            checks.check_interpreter(version)

    @pytest.mark.parametrize(
        "machine", [("Linux", "aarch64", "glibc"), ("Linux", "x86_64", ""), ("Darwin", "arm64", "")]
    )
    def test_other_machines_are_sent_to_a_workspace(self, machine: tuple[str, str, str]) -> None:
        with pytest.raises(
            checks.SetupError, match=rf"{machine[1]}(.|\n)*ROS 2(.|\n)*colcon build"
        ):
            checks.check_platform(*machine)
        checks.check_platform("Linux", "x86_64", "glibc")

    def test_missing_parts_of_python_name_their_packages(self, tmp_path: Path) -> None:
        with pytest.raises(checks.SetupError, match=r"no module ensurepip(.|\n)*python3-venv"):
            checks.check_venv_module(lambda name: None if name == "ensurepip" else object())
        with pytest.raises(checks.SetupError, match=r"Python.h is missing(.|\n)*python3-dev"):
            checks.check_headers(str(tmp_path))

    def test_a_full_disk(self, tmp_path: Path) -> None:
        with pytest.raises(checks.SetupError, match=r"GB free and .venv needs 1000000.0 GB"):
            checks.check_disk(str(tmp_path), needed=10**15)

    def test_both_compilers_are_needed_and_cc_and_cxx_win(self, tmp_path: Path) -> None:
        path = {"PATH": str(tmp_path)}
        assert not checks.has_compilers(path)
        (tmp_path / "gcc").touch(mode=0o755)
        assert not checks.has_compilers(path)
        for name in ("g++", "my-cc"):
            (tmp_path / name).touch(mode=0o755)
        assert checks.has_compilers(path)
        assert checks.has_compilers({**path, "CC": "my-cc -m64"})
        with pytest.raises(checks.SetupError, match="CC names not-there, which is not on PATH"):
            checks.has_compilers({**path, "CC": "not-there"})


class TestCommands:
    def test_a_failure_shows_the_end_of_the_log_and_the_remedy(self, tmp_path: Path) -> None:
        script = "print(*range(100), sep='\\n'); raise SystemExit(3)"
        with pytest.raises(checks.SetupError) as caught:
            commands.run(
                [sys.executable, "-c", script], tmp_path / "log", dict(os.environ), "do this"
            )
        message = str(caught.value)
        assert "ended with 3" in message and "| 99\ndo this" in message
        assert "| 74\n" not in message and str(tmp_path / "log") in message

    def test_another_ros_is_kept_out(self, tmp_path: Path) -> None:
        base = {"PATH": "/bin", "PYTHONPATH": "/opt/ros/x", "AMENT_PREFIX_PATH": "/opt/ros"}
        environ = commands.clean_environment(tmp_path, base)
        assert environ["PATH"] == f"{tmp_path}/bin:/bin"
        assert "PYTHONPATH" not in environ and "AMENT_PREFIX_PATH" not in environ


class TestBuilder:
    def test_links_to_files_that_went_away_are_removed(self, tmp_path: Path) -> None:
        site = tmp_path / ".venv" / "lib" / "python3.11" / "site-packages" / "alpamayo_ros" / "msg"
        site.mkdir(parents=True)
        (tmp_path / "kept.py").touch()
        (site / "kept.py").symlink_to(tmp_path / "kept.py")
        (site / "gone.py").symlink_to(tmp_path / "gone.py")
        Builder(tmp_path, tmp_path / ".venv").remove_dangling_links()
        assert [path.name for path in site.iterdir()] == ["kept.py"]

    def test_a_removed_message_needs_a_build_from_scratch(self, checkout: Path) -> None:
        """Its generated module would stay importable."""
        builder = Builder(checkout, checkout / ".venv")
        builder.built_interfaces.parent.mkdir(parents=True)
        assert not builder.interfaces_went_away()
        builder.built_interfaces.write_text("A.msg")
        (checkout / "msg" / "B.msg").touch()
        assert not builder.interfaces_went_away()
        (checkout / "msg" / "A.msg").unlink()
        assert builder.interfaces_went_away()

    def test_tf2_msgs_is_built_only_where_there_is_none(self, tmp_path: Path) -> None:
        venv = tmp_path / ".venv"
        (venv / ".setup").mkdir(parents=True)
        packages = venv / "share" / "ament_index" / "resource_index" / "packages"
        packages.mkdir(parents=True)
        own = Builder(tmp_path, venv)
        assert len(own.packages()) == 2
        (packages / "tf2_msgs").touch()
        assert len(own.packages()) == 2, "ours of the last build is no reason to build it no more"
        own.own_tf2_msgs.unlink()
        assert own.packages() == [tmp_path]
