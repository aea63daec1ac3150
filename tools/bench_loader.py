"""`segcore bench-loader` under the name that it had."""

from segcore.cli.main import bench_loader

if __name__ == "__main__":
    bench_loader()
