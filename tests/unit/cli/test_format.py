"""Tables and listings."""

from __future__ import annotations

import pytest

from cnm.cli.errors import TemplateError
from cnm.cli.format import Listing, align, label_title, natural
from cnm.cli.values import Row

LISTING = Listing("row", {"ID": "NETWORK ID", "Name": "NAME"}, ("ID", "Name"), raw="id: {{.ID}}\n")


def rows(*names: str) -> list[Row]:
    return [LISTING.row({"ID": name * 3, "Name": name}, {"Label": str.upper}) for name in names]


@pytest.mark.parametrize(
    ("text", "aligned"),
    [
        pytest.param("a\tb", "a         b", id="ten wide at least"),
        pytest.param("a\tb\nlonger than\tc", "a             b\nlonger than   c", id="three apart"),
        pytest.param(
            "a\tb\nplain\nlonger than\tc", "a         b\nplain\nlonger than   c", id="runs"
        ),
        pytest.param("é\tx", "é         x", id="characters, not bytes"),
        pytest.param("a\t", "a         ", id="last cell empty"),
        pytest.param("none", "none", id="no column"),
    ],
)
def test_align(text: str, aligned: str) -> None:
    assert align(text) == aligned


@pytest.mark.parametrize(
    ("form", "quiet", "printed"),
    [
        pytest.param("", False, "NETWORK ID   NAME\naaa          a\nbbb          b\n", id="table"),
        pytest.param("table", True, "aaa\nbbb\n", id="quiet"),
        pytest.param("{{.Name}}", True, "a\nb\n", id="a format wins over quiet"),
        pytest.param("table {{.Name}}\\t{{.ID}}", False,
                     "NAME      NETWORK ID\na         aaa\nb         bbb\n", id="columns"),
        pytest.param('table {{.Label "x.my-a"}}', False, "my a\nX.MY-A\nX.MY-A\n", id="label"),
        pytest.param("table {{upper .Name}}", False, "NAME\nA\nB\n", id="functions spare titles"),
        pytest.param("json", True, '{"ID":"aaa","Name":"a"}\n{"ID":"bbb","Name":"b"}\n', id="json"),
        pytest.param("raw", False, "id: aaa\n\nid: bbb\n\n", id="raw"),
        pytest.param(r"{{.ID}}\t{{.Name}}\n", False, "aaa\ta\n\nbbb\tb\n\n", id="escapes"),
    ],
)  # fmt: skip
def test_listing(form: str, quiet: bool, printed: str) -> None:
    assert LISTING.render(rows("a", "b"), form, quiet) == printed


def test_empty_table_has_its_header() -> None:
    assert LISTING.render([], "", quiet=False) == "NETWORK ID   NAME\n"
    assert LISTING.render([], "{{.Name}}", quiet=False) == ""


def test_unknown_column_of_an_empty_table() -> None:
    with pytest.raises(TemplateError):
        LISTING.render([], "table {{.Nope}}", quiet=False)


def test_label_title() -> None:
    assert label_title("com.docker.my_good-name") == "my good name"


def test_natural_order() -> None:
    names = ["net10", "net9", "Net1", "net", "9", "10", "net9b"]
    assert sorted(names, key=natural) == ["9", "10", "Net1", "net", "net9", "net9b", "net10"]
