"""The packages, with configurations and the catalogue inside the wheel; see pyproject.toml."""

from setuptools import find_packages, setup

CODE = ["segcore*", "mask2former*", "cropformer*", "maskrefine*"]
SHIPPED = {"segcore.configs": "configs", "segcore.datasets": "datasets"}  # package: folder here

setup(
    packages=[*find_packages(include=CODE), *SHIPPED],
    package_dir=SHIPPED,
    include_package_data=False,
    package_data={
        "segcore.configs": ["**/*.yaml"],
        "segcore.datasets": ["README.md", "catalog/*.yaml", "classes/*.yaml"],
        "segcore.engine": ["published_weights.yaml"],
    },
)
