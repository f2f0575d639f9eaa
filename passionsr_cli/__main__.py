"""The command `passionsr`, and `python -m passionsr_cli`."""

from passionsr_cli.cli.app import main
from passionsr_cli.terminal.console import run_alone


def run() -> None:
    """Run the command line as all that this process is there for."""
    run_alone(main)


if __name__ == "__main__":
    run()
