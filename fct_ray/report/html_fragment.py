"""A report as a piece of HTML: notes, sentences and tables without plots and without a page around them, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence

import jinja2

from fct_ray.report.content import Report
from fct_ray.report.explanations import what_it_shows
from fct_ray.report.tables import tables_of
from fct_ray.report.text_table import Table

_TEMPLATE = """\
<div>
{% for sentence in sentences %}<p><b>{{ sentence }}</b></p>
{% endfor %}
{% for note in notes %}<p>{{ note }}</p>
{% endfor %}
{% for table in tables %}
<h4>{{ table.title }}</h4>
<table>
<thead><tr>{% for cell in table.header %}<th>{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
<p><small>{{ table.sentence }}</small></p>
{% endfor %}
</div>
"""


def render_fragment(report: Report) -> str:
    """The report's sentences, notes and tables as one `<div>`; everything from outside is escaped."""
    sentences = what_it_shows(report)
    return render_tables(tables_of(report), sentences=sentences, notes=report.notes)


def render_tables(tables: Sequence[Table], *, sentences: Sequence[str] = (), notes: Sequence[str] = ()) -> str:
    """Sentences, notes and tables as one `<div>`; everything from outside is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_TEMPLATE).render(sentences=sentences, notes=notes, tables=tables)
