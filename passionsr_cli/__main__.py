"""The command `passionsr`, and `python -m passionsr_cli`."""


def run() -> None:
    """Run the command line as all that this process is there for."""
    try:
        # Ctrl-C may come while they are imported.
        from passionsr_cli.cli.app import main
        from passionsr_cli.terminal.ending import run_alone

        run_alone(main)
    except KeyboardInterrupt:
        from passionsr_cli.system.interruptions import exit_code

        raise SystemExit(exit_code()) from None


if __name__ == "__main__":
    run()
