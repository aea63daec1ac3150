"""Files from a server that breaks off, stalls, lies, refuses: whole and right, or not there."""

import hashlib
import pickle
import socket
import threading
from http.client import HTTPResponse

import pytest
import torch
from file_server import Behaviour, content, serving, status
from safetensors.torch import save

from segcore.engine import download
from segcore.engine.checkpoint_reader import read_checkpoint
from segcore.engine.download import Patience, fetch
from segcore.engine.fetched_file import Digest
from segcore.engine.transfer import MissingFileError
from segcore.errors import WeightsError

STATE = {"a": torch.arange(5000.0)}
DATA = pickle.dumps({"model": {k: v.numpy() for k, v in STATE.items()}})
MD5, SHA256 = hashlib.md5(DATA).hexdigest(), hashlib.sha256(DATA).hexdigest()
QUICK = Patience(timeout=0.2, attempts=3, pause=0.0)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder that files are fetched into; fetching is allowed."""
    monkeypatch.setenv("SEGCORE_OFFLINE", "0")
    monkeypatch.setenv("SEGCORE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return tmp_path


def names(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def ranges(behaviour):
    return [headers.get("Range") for _, headers in behaviour.requests]


def test_a_file_is_fetched_once(cache):
    behaviour = Behaviour(content(DATA))
    with serving(behaviour) as server:
        for _ in range(2):
            found = read_checkpoint(f"{server}/zoo/net.pkl")["model"]
            assert torch.equal(found["a"], STATE["a"])
        assert read_checkpoint(f"{server}/other/net.pkl")  # a namesake is another file
    assert len(behaviour.requests) == 2
    assert names(cache) == ["net.pkl", "net.pkl"]
    place = cache / server.removeprefix("http://").replace(":", "_") / "zoo" / "net.pkl"
    assert place.read_bytes() == DATA


def test_what_breaks_off_is_gone_on_with(cache):
    behaviour = Behaviour(*[content(DATA, cut=6000)] * 2, status(503), content(DATA))
    with serving(behaviour) as server:
        fetch(f"{server}/a.pkl", cache / "a.pkl", patience=QUICK)
    assert (cache / "a.pkl").read_bytes() == DATA
    assert ranges(behaviour) == [None, "bytes=6000-", "bytes=12000-", "bytes=12000-"]
    assert behaviour.requests[1][1]["If-Range"] == '"1"'
    assert names(cache) == ["a.pkl"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(cache):
    behaviour = Behaviour(content(DATA, cut=6000), status(500))
    goal = cache / "a.pkl"
    with serving(behaviour) as server:
        with pytest.raises(WeightsError, match=r"status 500; given up after 3.*6000 bytes"):
            fetch(f"{server}/a.pkl", goal, patience=QUICK)
        assert not goal.exists()
        behaviour.answers = [content(DATA)]
        fetch(f"{server}/a.pkl", goal, patience=QUICK)
    assert ranges(behaviour)[-1] == "bytes=6000-"
    assert goal.read_bytes() == DATA


@pytest.mark.parametrize("honest", [True, False])
def test_a_file_that_changed_meanwhile_is_fetched_anew(cache, honest):
    """Also where the server sends a part of the new version after a part of the old."""
    new = content(DATA, etag='"2"', looks_at_if_range=honest)
    behaviour = Behaviour(content(b"x" * len(DATA), cut=6000), new)
    with serving(behaviour) as server:
        fetch(f"{server}/a.pkl", cache / "a.pkl", patience=QUICK)
    assert (cache / "a.pkl").read_bytes() == DATA
    assert ranges(behaviour) == [None, "bytes=6000-", *([] if honest else [None])]


@pytest.mark.parametrize("how", [{"etag": None}, {"etag": 'W/"1"'}, {"takes_ranges": False}])
def test_without_ranges_or_versions_it_starts_from_the_beginning(cache, how):
    behaviour = Behaviour(content(DATA, cut=6000, **how), content(DATA, **how))
    with serving(behaviour) as server:
        fetch(f"{server}/a.pkl", cache / "a.pkl", patience=QUICK)
    assert (cache / "a.pkl").read_bytes() == DATA
    assert ranges(behaviour) == [None, "bytes=6000-" if "takes_ranges" in how else None]


def test_a_half_file_that_is_too_long_is_fetched_anew(cache):
    behaviour = Behaviour(content(DATA + b"more", cut=len(DATA) + 2), content(DATA))
    with serving(behaviour) as server:
        fetch(f"{server}/a.pkl", cache / "a.pkl", patience=QUICK)
    assert (cache / "a.pkl").read_bytes() == DATA


def test_a_server_that_stalls_is_given_up(cache):
    behaviour = Behaviour(status(200))
    behaviour.answers = [content(DATA, cut=6000, stall=behaviour.over)]
    with serving(behaviour) as server:
        patience = Patience(timeout=0.05, attempts=1, pause=0.0)
        behaviour.answers.append(content(DATA, cut=0, stall=behaviour.over))
        with pytest.raises(WeightsError, match=r"timed out; given up.*6000 bytes"):
            fetch(f"{server}/a.pkl", cache / "a.pkl", patience=patience)
    assert names(cache) == ["a.pkl.lock", "a.pkl.part", "a.pkl.part.json"]


@pytest.mark.parametrize("claims", [len(DATA) + 5, len(DATA) - 5, 0])
@pytest.mark.parametrize("digest", [None, Digest(kind="md5", start=MD5[:6])])
def test_a_wrong_size_never_becomes_a_file(cache, claims, digest):
    """With no size at all, what has come in full is taken."""
    behaviour = Behaviour(content(DATA, claims=claims, takes_ranges=False))
    goal = cache / "a.pkl"
    with serving(behaviour) as server:
        if not claims:
            fetch(f"{server}/a.pkl", goal, digest=digest, patience=QUICK)
            assert goal.read_bytes() == DATA
            return
        with pytest.raises(WeightsError, match=r"broken off|end is missing|md5 begins with"):
            fetch(f"{server}/a.pkl", goal, digest=digest, patience=QUICK)
    assert not goal.exists()


def zipped(tmp_path):
    torch.save(STATE, tmp_path / "zipped")
    return (tmp_path / "zipped").read_bytes()


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.pkl"])
def test_a_file_without_its_end_is_not_taken(cache, tmp_path, name):
    whole = {"a.pth": zipped(tmp_path), "a.safetensors": save(STATE), "a.pkl": DATA}[name]
    behaviour = Behaviour(content(whole[:-30]))
    with serving(behaviour) as server:
        with pytest.raises(WeightsError, match="its end is missing; nothing of it was kept"):
            fetch(f"{server}/{name}", cache / name, patience=QUICK)
        assert not (cache / name).exists()
        behaviour.answers = [content(whole)]
        fetch(f"{server}/{name}", cache / name, patience=QUICK)
    assert (cache / name).read_bytes() == whole


@pytest.mark.parametrize("digest", [("md5", MD5[:6]), ("sha256", SHA256)])
def test_hashes_are_checked(cache, digest):
    kind, start = digest
    with serving(Behaviour(content(DATA))) as server:
        wrong = Digest(kind=kind, start=start[:-1] + ("0" if start[-1] != "0" else "1"))
        with pytest.raises(
            WeightsError, match=f"{kind} begins with {start}, expected {wrong.start}"
        ):
            fetch(f"{server}/a.pkl", cache / "a.pkl", digest=wrong, patience=QUICK)
        assert names(cache) == ["a.pkl.lock"]
        fetch(f"{server}/a.pkl", cache / "a.pkl", digest=Digest(kind=kind, start=start))
    assert names(cache) == ["a.pkl"]


@pytest.mark.parametrize(
    "answer, says",
    [
        (status(403), "403 Forbidden; access is refused.*HF_TOKEN"),
        (status(401), "401 Unauthorized"),
        (status(400), "status 400"),
        (content(b"<html>sign in</html>", kind="text/html; charset=utf-8"), "a web page came"),
        (content(b" <!DOCTYPE html>"), "a web page came"),
        (content(b"version https://git-lfs.github.com/spec/v1\noid"), "Git LFS pointer"),
        (content(b""), "an empty file came"),
    ],
)
def test_what_is_not_the_file_is_an_error_that_helps(cache, answer, says):
    behaviour = Behaviour(answer)
    with serving(behaviour) as server:
        with pytest.raises(WeightsError, match=says) as caught:
            fetch(f"{server}/a.pkl", cache / "a.pkl", patience=QUICK)
        assert f"download {server}/a.pkl and put it at {cache}/a.pkl" in str(caught.value)
    assert len(behaviour.requests) == 1
    assert names(cache) == ["a.pkl.lock"]


def test_a_missing_file_is_an_error_of_its_own(cache):
    with serving(Behaviour(status(404))) as server, pytest.raises(MissingFileError, match="404"):
        fetch(f"{server}/a.pkl", cache / "a.pkl", patience=QUICK)


def test_without_a_server_the_error_says_where_to_put_the_file(cache):
    with serving(Behaviour(status(200))) as server:
        pass
    with pytest.raises(
        WeightsError, match=f"cannot be reached.*put it at {cache}.*SEGCORE_WEIGHTS"
    ):
        read_checkpoint(f"{server}/a.pkl")


def test_without_a_network_the_error_comes_at_once(cache, monkeypatch):
    def no_network(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(WeightsError, match=r"cannot be reached.*Name or service.*put it at"):
        fetch("https://example.org/a.pkl", cache / "a.pkl", patience=Patience(pause=99))


def test_a_cable_that_is_pulled_is_not_taken_for_a_full_disk(cache, monkeypatch):
    def pulled(*_):
        raise OSError(113, "No route to host")

    monkeypatch.setattr(HTTPResponse, "read1", pulled)
    raises = pytest.raises(WeightsError, match=r"No route to host.*given up after 3")
    with serving(Behaviour(content(DATA))) as server, raises:
        fetch(f"{server}/a.pkl", cache / "a.pkl", patience=QUICK)


def test_redirects_are_followed_to_safe_addresses_only_and_get_no_token(cache):
    hashed = {"X_Linked_ETag": f'"{SHA256}"', "X_Linked_Size": str(len(DATA))}
    behaviour = Behaviour(status(302, Location="/there", **hashed), content(DATA))
    with serving(behaviour) as server:
        fetch(f"{server}/a.pkl", cache / "a.pkl", token="secret", patience=QUICK)
        assert [headers.get("Authorization") for _, headers in behaviour.requests] == [
            "Bearer secret", None,
        ]  # fmt: skip
        other = hashed | {"X_Linked_ETag": '"' + "0" * 64 + '"'}
        behaviour.answers = [status(302, Location="/there", **other), content(DATA)]
        with pytest.raises(WeightsError, match="sha256 begins with"):
            fetch(f"{server}/b.pkl", cache / "b.pkl", patience=QUICK)
        short = hashed | {"X_Linked_Size": "7"}
        behaviour.answers = [status(302, Location="/there", **short), content(DATA)]
        with pytest.raises(WeightsError, match="bytes came, 7 were expected"):
            fetch(f"{server}/b.pkl", cache / "b.pkl", patience=QUICK)
        for unsafe in ("http://example.org/a.pkl", "ftp://127.0.0.1/a.pkl"):
            behaviour.answers = [status(302, Location=unsafe)]
            with pytest.raises(WeightsError, match=r"fetched over https only|status 302"):
                fetch(f"{server}/c.pkl", cache / "c.pkl", patience=QUICK)
    for unsafe in ("http://example.org/d.pkl", "s3://bucket/d.pkl"):
        with pytest.raises(WeightsError, match="fetched over https only"):
            read_checkpoint(unsafe)


def fetch_in_threads(url, goal, count=4):
    """What each of several that want the same file at once came to."""
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(fetch(url, goal, patience=QUICK)))
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_only_one_of_many_fetches_and_the_others_share(cache):
    behaviour = Behaviour(content(DATA))
    with serving(behaviour) as server:
        assert fetch_in_threads(f"{server}/a.pkl", cache / "a.pkl") == [cache / "a.pkl"] * 4
    assert len(behaviour.requests) == 1
    assert (cache / "a.pkl").read_bytes() == DATA
    assert names(cache) == ["a.pkl"]


def test_without_locks_each_has_a_half_file_of_its_own(cache, monkeypatch):
    monkeypatch.setattr(download, "fcntl", None)
    with serving(Behaviour(content(DATA))) as server:
        assert fetch_in_threads(f"{server}/a.pkl", cache / "a.pkl") == [cache / "a.pkl"] * 4
        assert (cache / "a.pkl").read_bytes() == DATA
        behaviour = Behaviour(content(DATA, cut=6000, etag=None))
    with serving(behaviour) as server, pytest.raises(WeightsError, match="broken off"):
        fetch(f"{server}/b.pkl", cache / "b.pkl", patience=QUICK)
    assert not [name for name in names(cache) if "part" in name]


def test_a_folder_that_cannot_be_written_is_an_error(cache):
    (cache / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"cannot be written.*SEGCORE_WEIGHTS"):
        fetch("https://example.org/a.pkl", cache / "file" / "a.pkl")
