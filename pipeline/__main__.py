"""`creditstream` and `python -m pipeline`: the command line."""

from pipeline.cli.app import app


def main() -> None:
    """Run the command line; every command ends with a documented exit code."""
    app(prog_name="creditstream")


if __name__ == "__main__":
    main()
