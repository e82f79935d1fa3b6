"""The command line. Heavy imports happen inside the commands, so that `--help` is fast."""

from secateur.cli.app import main as main

__all__ = ["main"]
