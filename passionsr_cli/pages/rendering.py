"""Fill the template of an HTML page."""

from __future__ import annotations

from pathlib import Path

from passionsr_cli.system.text import printable


def render(template: Path, **values: object) -> str:
    """The page of a template that extends `base.html`, which lies here.

    Every value is escaped, unless the template calls it safe, and control characters always; a
    value that is missing is an error.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return printable(environment.get_template(template.name).render(values))
