"""What Python of a `.venv` does when it starts, so that ROS is found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from alpamayo_ros.bootstrap import entry_points, venv_hook


class TestHook:
    def test_environment_of_a_sourced_prefix(self) -> None:
        environ = {"AMENT_PREFIX_PATH": "/opt/ros/x"}
        venv_hook.set_environment(environ, "/v")
        assert environ["AMENT_PREFIX_PATH"] == "/v:/opt/ros/x"
        again = dict(environ)
        venv_hook.set_environment(again, "/v")
        assert again == environ

    def test_the_guard_of_another_environment_does_not_hold_here(self) -> None:
        environ = {venv_hook.WHEELS_GUARD: "1", "LD_LIBRARY_PATH": "/other/lib"}
        venv_hook.set_environment(environ, "/v")
        assert venv_hook.WHEELS_GUARD not in environ
        environ = {venv_hook.WHEELS_GUARD: "1", "LD_LIBRARY_PATH": "/other/lib:/v/lib"}
        venv_hook.set_environment(environ, "/v")
        assert venv_hook.WHEELS_GUARD in environ

    def test_sources_and_generated_modules_are_one_package(self, tmp_path: Path) -> None:
        """Also started in the repository's root, where Python finds the sources first."""
        sources, installed = tmp_path / "repo" / "alpamayo_ros", tmp_path / "site" / "alpamayo_ros"
        for folder, module in ((sources, "ours"), (installed, "msg")):
            folder.mkdir(parents=True)
            (folder / "__init__.py").touch()
            (folder / f"{module}.py").touch()
        hook = Path(venv_hook.__file__).parent
        script = (
            "import sys; from venv_hook import SourceTreeFinder;"
            f"sys.meta_path.insert(0, SourceTreeFinder({str(sources)!r}, {str(installed)!r}));"
            "import alpamayo_ros.ours, alpamayo_ros.msg; print(alpamayo_ros.__file__)"
        )
        for start in (tmp_path / "repo", tmp_path / "site"):
            result = subprocess.run(
                [sys.executable, "-S", "-c", script],
                cwd=start,
                env={"PYTHONPATH": str(hook)},
                capture_output=True,
                text=True,
            )
            assert result.stdout.strip() == str(sources / "__init__.py"), result.stderr

    def test_the_command_starts_from_a_path_with_a_space(self, tmp_path: Path) -> None:
        venv = tmp_path / "a clone" / ".venv"
        site = venv / "lib" / "python3.11" / "site-packages"
        (site / "alpamayo_ros").mkdir(parents=True)
        (venv / "bin").mkdir()
        (venv / "bin" / "python").symlink_to(sys.executable)
        root = Path(entry_points.__file__).parents[2]
        entry_points.write(root, venv)
        assert (site / entry_points.PTH).read_text().count("\n") == 1
        result = subprocess.run(
            [venv / "bin" / "alpamayo", "--help"],
            env={**os.environ, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
        )
        assert "usage: alpamayo" in result.stdout, result.stderr
