"""`segcore convert-weights` under the name that it had."""

from segcore.cli.main import convert_weights

if __name__ == "__main__":
    convert_weights()
