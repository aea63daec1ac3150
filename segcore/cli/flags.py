"""What verbs share: flags, words without a flag, and how a command ends."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import click

from segcore.errors import NonFiniteError, UserError
from segcore.user_path import user_path

Command = Callable[..., None]
FREE = {"ignore_unknown_options": True}  # a value may begin with "-", as in SIZE_DIVISIBILITY -1


class UserPath(click.Path):
    """A path; "~" is the home also where no shell has replaced it, as in --output=~/results."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        """As click does it."""
        return user_path(os.fsdecode(super().convert(value, param, ctx)))


FILE = UserPath()


class ManyWords(click.Command):
    """Options that may be given many times also take many words: `--input a.png b.png`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does it, with the option's name put before each of its words."""
        many = {name for p in self.params if getattr(p, "multiple", False) for name in p.opts}
        written: list[str] = []
        option = ""  # whose words these are
        for word in args:
            if word.startswith("--"):
                option = word if word in many else ""
            elif option and written[-1] != option:
                written.append(option)
            written.append(word)
        for option, word in pairwise(written):
            if option in many and word.startswith("--"):
                raise click.BadOptionUsage(option, f"Option '{option}' requires an argument.", ctx)
        return super().parse_args(ctx, written)


def run(module: str, *, needs_config: bool = False, **given: Any) -> NoReturn:
    """End the program with what the `main` of a module returns.

    Args:
        given: its arguments. `words`, where they are among them, become `config_file` and `opts`.
    """
    if "words" in given:
        given |= split_words(given.pop("config_file"), given.pop("words"))
        if needs_config and given["config_file"] is None:
            raise click.UsageError("Missing CONFIG: a YAML file, or the name of one.")
    sys.exit(call(module, "main", **given))


def call(module: str, function: str, **given: Any) -> Any:
    """What a function of a module returns; ends the program with a line where it has an error."""
    accept_any_console()
    os.environ["MPLBACKEND"] = "agg"  # a notebook's, inherited by its shell, may not be installed
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # last: a config may name parts of one's own by import path
    try:
        return getattr(import_module(module), function)(**given)
    except (UserError, NonFiniteError, OSError) as problem:
        sys.exit(f"error: {problem}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def accept_any_console() -> None:
    """Signs that a console's encoding lacks are written as \\u53e3, where Python would give up."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def split_words(config_file: str | None, words: tuple[str, ...]) -> dict[str, Any]:
    """`[CONFIG] KEY VALUE ...`: a first word that is a file's name is the config."""
    opts = list(words)
    if opts and config_file is None and ("/" in opts[0] or opts[0].endswith((".yaml", ".yml"))):
        config_file = opts.pop(0)
    for key in opts[::2]:
        if key.startswith("-"):
            raise click.NoSuchOption(key)
    return {"config_file": config_file, "opts": opts}


def takes_config(command: Command) -> Command:
    """--config-file, and words without a flag."""
    kinds = {"nargs": -1, "type": click.UNPROCESSED, "metavar": "[CONFIG] [KEY VALUE]..."}
    command = click.option(
        "--opts", is_flag=True, expose_value=False, help="KEY VALUE ... follow; may be left out"
    )(command)
    command = click.option(
        "--config-file", metavar="FILE", help="a YAML file, or a config that comes along, by name"
    )(command)
    return click.argument("words", **kinds)(command)


def takes_wishes(command: Command) -> Command:
    """What a plan should be like."""
    for option in (
        click.option(
            "--network",
            type=click.Choice(["maskrcnn", "mask2former"]),
            help="default: by task, time and machine",
        ),
        click.option(
            "--task",
            type=click.Choice(["panoptic", "instance", "semantic", "entity"]),
            help="default: by what the data hold",
        ),
        click.option(
            "--minutes", type=click.FloatRange(1), help="of training; default: by the images"
        ),
    ):
        command = option(command)
    return command


def takes_machines(command: Command) -> Command:
    """detectron2's flags for several processes, and --resume."""
    for option in (
        click.option("--dist-url", default="", help="tcp://host:port of machine 0"),
        click.option("--machine-rank", type=int, default=0, show_default=True),
        click.option("--num-machines", type=int, default=1, show_default=True),
        click.option(
            "--num-gpus", type=click.IntRange(0), default=1, help="processes here; 0: the CPU"
        ),
        click.option("--resume", is_flag=True, help="from the last checkpoint in OUTPUT_DIR"),
    ):
        command = option(command)
    return command
