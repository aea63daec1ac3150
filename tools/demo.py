"""`segcore predict` under the name that it had."""

from segcore.cli.main import predict

if __name__ == "__main__":
    predict()
