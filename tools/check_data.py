"""`segcore doctor` under the name that it had."""

from segcore.cli.main import doctor

if __name__ == "__main__":
    doctor()
