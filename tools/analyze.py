"""`segcore analyze` under the name that it had."""

from segcore.cli.main import analyze

if __name__ == "__main__":
    analyze()
