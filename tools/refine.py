"""`segcore refine` as a script."""

from segcore.cli.main import refine

if __name__ == "__main__":
    refine()
