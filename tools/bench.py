"""`segcore bench` under the name that it had."""

from segcore.cli.main import bench

if __name__ == "__main__":
    bench()
