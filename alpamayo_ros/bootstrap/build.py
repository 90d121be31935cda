"""Builds the messages with colcon and installs the package into the virtual environment itself."""

from __future__ import annotations

import shutil
from pathlib import Path

from alpamayo_ros.bootstrap import checks, commands, stamps, zig
from alpamayo_ros.bootstrap.entry_points import site_packages

BUILD_REMEDY = (
    "If a .msg or .srv was changed, the lines above name it. Otherwise run `make clean`, then the "
    "same command again."
)
CHECK = "import rclpy, alpamayo_ros.msg, tf2_msgs.msg; rclpy.get_rmw_implementation_identifier()"


class Builder:
    """`colcon build` of this package into `.venv`, which the wheels made a ROS prefix.

    The files of the package are installed as links, so that an edit needs no build.
    """

    def __init__(self, root: Path, venv: Path) -> None:
        self.root = root
        self.venv = venv
        self.logs = venv / "log"
        self.own_tf2_msgs = venv / ".setup" / "own_tf2_msgs"
        self.built_interfaces = venv / ".setup" / "interfaces"

    def sources_key(self) -> str:
        """Changes with the interfaces and the build files, and with a file that comes or goes."""
        interfaces = ["msg", "srv", "CMakeLists.txt", "package.xml", "config/plain_ros/tf2_msgs"]
        installed = ["alpamayo_ros", "config", "launch", "models"]
        return stamps.hash_of(
            stamps.hash_of_contents(self.root, [self.root / name for name in interfaces]),
            stamps.hash_of_names(self.root, [self.root / name for name in installed]),
        )

    def build(self, progress: commands.Progress, from_scratch: bool = False) -> None:
        if from_scratch or self.interfaces_went_away():
            shutil.rmtree(self.venv / "build", ignore_errors=True)
        self.remove_dangling_links()
        self._colcon(progress)
        self.built_interfaces.write_text("\n".join(self._interfaces()), encoding="utf-8")
        commands.run(
            [self.venv / "bin" / "python", "-c", CHECK],
            self.logs / "check.log",
            commands.clean_environment(self.venv),
            BUILD_REMEDY,
            cwd=self.venv,
        )

    def _colcon(self, progress: commands.Progress) -> None:
        site = site_packages(self.venv)
        settings = {
            "Python3_EXECUTABLE": self.venv / "bin" / "python",
            "PYTHON_INSTALL_DIR": site.relative_to(self.venv),
            "BUILD_TESTING": "OFF",
        }
        environ = commands.clean_environment(self.venv)
        if not checks.has_compilers(environ):
            environ.update(zig.compilers(self.venv))
        environ["AMENT_PREFIX_PATH"] = environ["CMAKE_PREFIX_PATH"] = str(self.venv)
        command: list[str | Path] = [self.venv / "bin" / "colcon"]
        command += ["--log-base", self.logs / "colcon", "build"]
        command += ["--merge-install", "--symlink-install"]
        command += ["--install-base", self.venv, "--build-base", self.venv / "build"]
        command += ["--event-handlers", "console_direct+", "--paths", *self.packages()]
        command += ["--cmake-args", "-G", "Ninja", "-Wno-dev"]
        command += [f"-D{name}={value}" for name, value in settings.items()]
        commands.run(
            command,
            self.logs / "colcon.log",
            environ,
            BUILD_REMEDY,
            cwd=self.venv,
            progress=progress,
        )

    def packages(self) -> list[Path]:
        """This package, and tf2_msgs unless the wheels have it (those of Jazzy do not)."""
        marker = self.venv / "share" / "ament_index" / "resource_index" / "packages" / "tf2_msgs"
        if marker.exists() and not self.own_tf2_msgs.exists():
            return [self.root]
        self.own_tf2_msgs.touch()
        return [self.root / "config" / "plain_ros" / "tf2_msgs", self.root]

    def _interfaces(self) -> list[str]:
        files = [*self.root.glob("msg/*.msg"), *self.root.glob("srv/*.srv")]
        return sorted(file.name for file in files)

    def interfaces_went_away(self) -> bool:
        """The generators leave what they made of a message, so one taken out stays importable."""
        if not self.built_interfaces.exists():
            return False
        built = self.built_interfaces.read_text(encoding="utf-8").split("\n")
        return not set(built) <= set(self._interfaces())

    def remove_dangling_links(self) -> None:
        """A file taken out of the sources, or a message out of the build, leaves its link."""
        for folder in (
            site_packages(self.venv) / "alpamayo_ros",
            self.venv / "share" / "alpamayo_ros",
        ):
            for path in folder.rglob("*") if folder.is_dir() else ():
                if path.is_symlink() and not path.exists():
                    path.unlink()
