"""Files that are written whole or not at all."""

import pytest

from segcore.whole_file import whole_file


@pytest.mark.parametrize(("mode", "content"), [("w", "grün"), ("wb", b"\x00\xff")])
def test_content_replaces_an_older_file_and_folders_are_made(tmp_path, mode, content):
    path = tmp_path / "new" / "folder" / "file.txt"
    for text in (content[:1], content):
        with whole_file(path, mode) as stream:
            stream.write(text)
    found = path.read_bytes() if mode == "wb" else path.read_text(encoding="utf-8")
    assert found == content
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_readers_see_the_old_content_until_all_is_written(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with whole_file(path, "w") as stream:
        stream.write("new")
        stream.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [OSError("disk full"), ValueError("bug"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_no_temporary_one(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(type(error)), whole_file(path, "w") as stream:
        stream.write("half")
        raise error
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_content_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    path, order = tmp_path / "file.txt", []
    monkeypatch.setattr("os.fsync", lambda _: order.append(("fsync", path.exists())))
    with whole_file(path, "w") as stream:
        stream.write("new")
    assert order == [("fsync", False)]
    assert path.exists()


def test_the_longest_names_can_be_written(tmp_path):
    for name in ("a" * 255, "口" * 85, "a" * 252):
        with whole_file(tmp_path / name, "w") as stream:
            stream.write("new")
        assert (tmp_path / name).read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 3
