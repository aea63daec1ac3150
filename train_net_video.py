"""`segcore train` under the name that it had for video."""

from segcore.cli.main import train

if __name__ == "__main__":
    train()
