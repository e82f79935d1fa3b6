"""The command line: parse, call, exit code. Everything heavy is imported inside the commands."""

from secateur.cli.app import main as main

__all__ = ["main"]
