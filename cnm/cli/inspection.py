"""``inspect``: documents of several objects, as JSON or through a template."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from cnm.cli.errors import CommandError, ConnectionFailed, TemplateError
from cnm.cli.shape import Shape
from cnm.cli.template import Template

Found = tuple[object, Shape]
# Docker's status for a template of inspect that cannot be read.
_BAD_TEMPLATE = 64


def inspect(names: Sequence[str], fetch: Callable[[str], Found], form: str) -> int:
    """Prints each document that ``fetch`` finds, then what it did not find.

    A template that fails on one object is that object's error; the others are printed.

    :raises CommandError: when the daemon is not there or the template is malformed.
    """
    template = _template(form)
    shown: list[str] = []
    errors: list[str] = []
    documents: list[object] = []
    for name in names:
        try:
            document, shape = fetch(name)
            documents.append(document)
            if template:
                shown.append(template.render(shape.apply(document)))
        except ConnectionFailed:
            raise
        except CommandError as error:
            errors.append(str(error))
    sys.stdout.write(_output(documents, form) if template is None else "\n".join(shown) + "\n")
    if errors:
        raise CommandError("\n".join(errors))
    return 0


def _template(form: str) -> Template | None:
    if form in ("", "json"):
        return None
    try:
        return Template(form)
    except TemplateError as error:
        raise CommandError(str(error), _BAD_TEMPLATE) from None


def _output(documents: Sequence[object], form: str) -> str:
    import json

    if form == "json":
        return json.dumps(documents, ensure_ascii=False, separators=(",", ":")) + "\n"
    return json.dumps(documents, ensure_ascii=False, indent=4) + "\n"
