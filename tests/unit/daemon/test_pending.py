"""DELs that found no daemon."""

from __future__ import annotations

from pathlib import Path

from cnm.daemon import pending

KEY = {"Network": "pods", "Container": "c1", "Interface": "eth0"}


def test_kept_once_and_dropped(tmp_path: Path) -> None:
    socket = str(tmp_path / "cnm.sock")
    assert list(pending.all_of(socket)) == []
    assert not pending.is_kept(socket, KEY)
    for _ in range(2):
        pending.keep(socket, KEY)
    assert pending.is_kept(socket, KEY)
    assert list(pending.all_of(socket)) == [KEY]
    other = {**KEY, "Interface": "eth1"}
    pending.keep(socket, other)
    for _ in range(2):
        pending.drop(socket, KEY)
    assert list(pending.all_of(socket)) == [other]


def test_what_is_no_record_goes(tmp_path: Path) -> None:
    socket = str(tmp_path / "cnm.sock")
    pending.keep(socket, KEY)
    folder = Path(pending.folder(socket))
    (kept,) = folder.iterdir()
    for name, text in (("a.json", "{"), ("b.json", "[]"), ("c.json", "{}"), ("d.json.1", "")):
        (folder / name).write_text(text)
    (folder / f"e.json.{1 << 30}").write_text("")  # no process has this number
    assert list(pending.all_of(socket)) == [KEY]
    # process 1 may be writing
    assert {item.name for item in folder.iterdir()} == {kept.name, "d.json.1"}
