"""`segcore train` under the name that it had."""

from segcore.cli.main import train

if __name__ == "__main__":
    train()
