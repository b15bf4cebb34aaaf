"""``--format``: each template of the golden file prints, or is refused, as docker 28.2 did it.

The file was recorded from the real command on the document of ``documents.network``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from unit.cli.documents import NETWORK_ID, network

from cnm.cli.errors import TemplateError
from cnm.cli.shape import CONTAINER, NETWORK
from cnm.cli.template import Template
from cnm.cli.values import Row

RECORDED = json.loads((Path(__file__).parent / "golden" / "templates.json").read_text())
PREFIX = "template parsing error: template: "


def render(source: str, data: object) -> str:
    return Template(source).render(data)


@pytest.mark.parametrize("source", RECORDED["prints"])
def test_prints_as_docker(source: str) -> None:
    assert render(source, NETWORK.apply(network())) == RECORDED["prints"][source]


@pytest.mark.parametrize("source", RECORDED["refuses"])
def test_refuses_as_docker(source: str) -> None:
    with pytest.raises(TemplateError) as refused:
        render(source, NETWORK.apply(network()))
    assert str(refused.value) == PREFIX + RECORDED["refuses"][source]


@pytest.mark.parametrize(
    ("source", "data", "printed"),
    [
        pytest.param("{{.}}", {"b": 1, "a": [True, None]}, "map[a:[true <nil>] b:1]", id="map"),
        pytest.param("{{.x}} {{.x.y}}", {}, "<no value> <no value>", id="missing key"),
        pytest.param("{{.x}}", {"x": None}, "<no value>", id="null"),
        pytest.param("{{json .}}", {"b": "<", "a": None}, '{"a":null,"b":"<"}', id="json sorts"),
        pytest.param("{{json .}}", [0.5, "é\u2028"], '[0.5,"é\\u2028"]', id="json text"),
        pytest.param("{{range .}}{{.}},{{else}}none{{end}}", [], "none", id="range over nothing"),
        pytest.param("{{range .}}{{.}},{{end}}", {"b": 2, "a": 1}, "1,2,", id="range is sorted"),
        pytest.param("{{range $i, $v := .}}{{$i}}{{$v}}{{end}}", ["a", "b"], "0a1b", id="indices"),
        pytest.param("{{range .}}{{if eq . 2}}{{continue}}{{end}}{{.}}{{end}}", [1, 2, 3], "13"),
        pytest.param("{{$s := 0}}{{range .}}{{$s = .}}{{end}}{{$s}}", [1, 2], "2", id="assign"),
        pytest.param("{{with .a}}{{.}}{{else}}no{{end}}", {"a": ""}, "no", id="with"),
        pytest.param("{{index . 1 0}}", [[1], [2]], "2", id="index twice"),
        pytest.param('{{index . "x"}}|', {"a": "b"}, "|", id="zero value of a text"),
        pytest.param('{{index . "x"}}', {"a": 1}, "<no value>", id="zero value"),
        pytest.param("{{slice . 1}}{{slice . 0 1}}", "abc", "bca", id="slice"),
        pytest.param("{{slice . 1 2}}", [1, 2, 3], "[2]", id="slice of a list"),
        pytest.param('{{join . "-"}}', ["a", "b"], "a-b", id="join"),
        pytest.param('{{split . "."}}', "a.b", "[a b]", id="split"),
        pytest.param("a\n  {{- .}}\n{{. -}}\n b", 1, "a1\n1b", id="trim"),
        pytest.param("{{- /* c */ -}} x", 1, "x", id="comment"),
        pytest.param("{{and 1 0 (index . 9)}}", [], "0", id="and stops"),
        pytest.param('{{or "" "x" (index . 9)}}', [], "x", id="or stops"),
        pytest.param("{{printf `%q %v` . .}}", 'a"b\n', '"a\\"b\\n" a"b\n', id="quote"),
        pytest.param('{{"\\u00e9\\x41\\\\"}}', 0, "éA\\", id="escapes"),
        pytest.param("{{0x1F}} {{1_000}} {{-1}} {{'a'}}", 0, "31 1000 -1 97", id="numbers"),
        pytest.param(
            "{{le 1 1}}{{ge 2 1}}{{gt 2 1}}{{lt 2 1}}", 0, "truetruetruefalse", id="order"
        ),
        pytest.param("{{urlquery .}} {{html .}}", "a b&", "a+b%26 a b&amp;", id="encodings"),
        pytest.param("{{println 1 2}}{{print 1 2}}", 0, "1 2\n1 2", id="print"),
    ],
)
def test_prints(source: str, data: object, printed: str) -> None:
    assert render(source, data) == printed


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{{define `x`}}{{end}}", ":1: {{define}} is not supported"),
        ("\n{{range", ":2: unclosed action"),
        ("{{.a.b}}", ':1:4: executing "" at <.a.b>: can\'t evaluate field b in type interface {}'),
        ("{{index .a 1 2}}", ':1:2: executing "" at <index .a 1 2>: error calling index: '),
        ("{{slice .a 5}}", ':1:2: executing "" at <slice .a 5>: error calling slice: index out'),
        ("{{index 3 0}}", ':1:2: executing "" at <index 3 0>: error calling index: can\'t index'),
        ("{{lt true false}}", "error calling lt: invalid type for comparison"),
    ],
)
def test_refuses(source: str, problem: str) -> None:
    with pytest.raises(TemplateError) as refused:
        render(source, {"a": "x"})
    assert str(refused.value).startswith(PREFIX)
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("source", "printed"),
    [
        ("{{.ID}} {{.Id}}", f"{NETWORK_ID} {NETWORK_ID}"),
        ("{{range .IPAM.Config}}{{.IPRange}}|{{.AuxiliaryAddresses}}|{{json .}}{{end}}",
         '|map[]|{"Subnet":"10.0.0.0/24","Gateway":"10.0.0.1"}'),
        ("{{json .Peers}} {{len .Services}}", "null 0"),
    ],
)  # fmt: skip
def test_fields_that_json_leaves_out(source: str, printed: str) -> None:
    assert render(source, NETWORK.apply(network())) == printed


def test_container_document() -> None:
    document = {
        "Id": "c",
        "Config": {"Labels": {"z": "1", "A": "2"}, "Cmd": None},
        "NetworkSettings": {"Networks": {"n": {"Aliases": None, "IPAddress": "10.0.0.2"}}},
    }
    source = (
        "{{.Config.Labels}} {{.Config.Cmd}} {{json .NetworkSettings}} "
        "{{range $name, $on := .NetworkSettings.Networks}}{{$name}}={{.IPAddress}}{{end}}"
    )
    printed = (
        'map[A:2 z:1] [] {"Networks":{"n":{"Aliases":null,"IPAddress":"10.0.0.2"}}} n=10.0.0.2'
    )
    assert render(source, CONTAINER.apply(document)) == printed


def test_row_has_fields_and_methods() -> None:
    row = Row("row", {"B": "<b>", "A": "a"}, {"Label": lambda name: f"label {name}"})
    assert render('{{.B}} {{.Label "x"}} {{"y" | .Label}}', row) == "<b> label x label y"
    assert render("{{json .}} {{json .B}}", row) == '{"A":"a","B":"\\u003cb\\u003e"} "<b>"'


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{{.C}}", "<.C>: can't evaluate field C in type row"),
        ("{{.Label}}", "<.Label>: wrong number of args for Label: want 1 got 0"),
        ("{{json .Label}}", "<.Label>: wrong number of args for Label: want 1 got 0"),
        ("{{.Label 1}}", "expected string; found 1"),
        ('{{.A "x"}}', "<.A>: A is not a method but has arguments"),
    ],
)
def test_row_refuses(source: str, problem: str) -> None:
    with pytest.raises(TemplateError, match=".*") as refused:
        render(source, Row("row", {"A": "a"}, {"Label": lambda name: name}))
    assert problem in str(refused.value)
