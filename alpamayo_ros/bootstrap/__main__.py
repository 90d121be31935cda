"""`python3 -m alpamayo_ros.bootstrap setup`: what `make setup` runs, from the repository's root.

This file alone must load on a Python that is too old, to say so: no newer syntax here.
"""

import argparse
import signal
import sys

from alpamayo_ros.bootstrap import checks


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m alpamayo_ros.bootstrap",
        description="Set up .venv: ROS 2 Jazzy from PyPI, this package and its tools.",
        epilog="example: python3.11 -m alpamayo_ros.bootstrap setup --dev",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True  # as an argument it needs Python 3.7
    setup = commands.add_parser("setup", help="make or update .venv; seconds if nothing changed")
    setup.add_argument("--dev", action="store_true", help="also the tools for tests and lint")
    setup.add_argument("--quiet", action="store_true", help="say nothing if nothing is to be done")
    commands.add_parser(
        "pin", help="rewrite this Python's constraints file from a fresh, unpinned installation"
    )
    arguments = parser.parse_args()
    try:
        checks.check_interpreter()
        from alpamayo_ros.bootstrap import environment, pins

        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if arguments.command == "pin":
            pins.pin(environment.ROOT)
        else:
            environment.set_up(dev=arguments.dev, quiet=arguments.quiet)
    except checks.SetupError as error:
        print("\nerror: " + str(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the next run goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
