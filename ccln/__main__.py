"""`python -m ccln COMMAND ...` runs `ccln-COMMAND ...`, where the scripts are not in the path."""

import sys
from importlib.metadata import entry_points

_PREFIX = "ccln-"


def main() -> None:
    """Run the command that the first argument names."""
    scripts = {point.name.removeprefix(_PREFIX): point for point in entry_points(group="console_scripts")}
    commands = sorted(name for name, point in scripts.items() if point.name == _PREFIX + name)
    if sys.argv[1:2] == ["--version"]:
        import ccln

        print(ccln.__version__)
    elif not sys.argv[1:] or sys.argv[1] in ("-h", "--help"):
        print(f"Usage: python -m ccln COMMAND ...\n\nCommands: {', '.join(commands)}; each has --help.")
    elif sys.argv[1] not in commands:
        sys.exit(f"ccln: no command {sys.argv[1]!r}: choose from {', '.join(commands)}")
    else:
        name = sys.argv[1]
        sys.argv[:2] = [_PREFIX + name]
        scripts[name].load()()


if __name__ == "__main__":
    main()
