"""The OpenAPI document as a page that needs nothing from the network: no script, no font."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.responses import HTMLResponse, Response

from cnm.engine.answers import Json
from cnm.engine.ours import PREFIX

_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>cnm API</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><style>
body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem}
code{font-family:ui-monospace,monospace}h2{margin-top:2.5rem;border-bottom:1px solid #8886}
summary{padding:.3rem 0;cursor:pointer}table{border-collapse:collapse;margin:.5rem 0 1rem 1.2rem}
td,th{border:1px solid #8886;padding:.2rem .6rem;text-align:left;vertical-align:top}
b{display:inline-block;min-width:5rem}@media(prefers-color-scheme:dark){
body{background:#161616;color:#ddd}a{color:#8bf}}</style>
"""


def routes(app: FastAPI) -> APIRouter:
    """``openapi.json`` and the page."""
    router = APIRouter(prefix=PREFIX, include_in_schema=False)

    @router.get("/openapi.json")
    def document() -> Response:
        return Json(app.openapi())

    @router.get("/docs")
    def page() -> Response:
        return HTMLResponse(render(app.openapi()))

    return router


def render(document: Mapping[str, Any]) -> str:
    """An OpenAPI document as HTML, grouped by tag."""
    about = document["info"]
    groups: dict[str, list[str]] = {}
    schemas = document.get("components", {}).get("schemas", {})
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tag = operation.get("tags", ["other"])[0]
            groups.setdefault(tag, []).append(_operation(path, method, operation, schemas))
    title = f"<h1>{html.escape(about['title'])} {html.escape(about['version'])}</h1>"
    intro = f"<p>{html.escape(about.get('description', ''))}</p>"
    link = f'<p>The same for programs: <a href="{PREFIX}/openapi.json">openapi.json</a></p>'
    parts = (f"<h2>{html.escape(tag)}</h2>{''.join(items)}" for tag, items in groups.items())
    return _HEAD + title + intro + link + "".join(parts) + "</html>\n"


def _operation(
    path: str, method: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]
) -> str:
    head = f"<b>{method.upper()}</b> <code>{html.escape(path)}</code>"
    said = html.escape(operation.get("description") or operation.get("summary", ""))
    rows = [
        (item["name"], item["in"], item["schema"].get("type", ""))
        for item in operation.get("parameters", ())
    ]
    rows += list(_body_rows(operation, schemas))
    cells = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    table = f"<table><tr><th>name<th>in<th>type</tr>{cells}</table>" if rows else ""
    return f"<details><summary>{head} — {said}</summary>{table}</details>"


def _body_rows(
    operation: Mapping[str, Any], schemas: Mapping[str, Any]
) -> Iterable[tuple[str, str, str]]:
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    for name in _references(schema):
        for key, item in schemas.get(name, {}).get("properties", {}).items():
            inner = ", ".join(_references(item))
            yield key, "body", inner or item.get("type", "any")


def _references(schema: Any) -> Iterable[str]:
    """Names of the models that a schema points at, one level deep."""
    if isinstance(schema, Mapping):
        if "$ref" in schema:
            yield str(schema["$ref"]).rpartition("/")[2]
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)
