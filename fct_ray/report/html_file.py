"""report.html: one self-contained page with tables and plots, to be opened, mailed or attached to a ticket.

Owns: putting tables, sentences and plots into the page. Everything but our own SVG is escaped, because names of
stores, models and settings come from outside.
"""

from __future__ import annotations

import jinja2

from fct_ray.report.content import Report
from fct_ray.report.explanations import what_it_shows
from fct_ray.report.html_template import TEMPLATE
from fct_ray.report.quantities import count, store_name
from fct_ray.report.tables import tables_of

_PLOT_OF_TABLE = {"compatibility": "compatibility", "stages": "stages", "spend": "forecast"}
"""Under which table each plot is shown."""


def render_html(report: Report) -> str:
    """The report as one HTML page without scripts and without references to anything outside."""
    from fct_ray.report.plots import plots_of  # matplotlib takes a second to import: only when something is drawn

    version = "none" if report.version is None else report.version
    return render_page(
        report=report,
        store_name=store_name(report.store),
        subtitle=f"{report.store}. Version {version}, {count(report.rows)} rows, run {report.run}",
        sentences=what_it_shows(report),
        tables=tables_of(report),
        plots=plots_of(report),
        plot_of=_PLOT_OF_TABLE,
    )


def render_page(**content: object) -> str:
    """The page with what the template asks for; everything but the plots is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(TEMPLATE).render(**content)
