"""A report's files: report.json, report.md and report.html side by side in one directory.

Owns: the names of the files. Knows no storage: whoever calls passes the function that writes bytes at a URI.
"""

from __future__ import annotations

from collections.abc import Callable

from fct_ray.report.content import Report
from fct_ray.report.html_file import render_html
from fct_ray.report.json_file import render_json
from fct_ray.report.markdown_file import render_markdown


def write_report(report: Report, directory_uri: str, write_bytes: Callable[[str, bytes], object]) -> str:
    """Write all files under `directory_uri` (local or s3://) and return the URI of report.json.

    `write_bytes(uri, data)` is for example `fct_ray.storage.objects.write_bytes`; it makes directories as needed.
    report.json is written last, so that whoever finds it finds the others too.
    """
    root = directory_uri.rstrip("/")
    json_uri = f"{root}/report.json"
    files = {
        f"{root}/report.html": render_html(report).encode(),
        f"{root}/report.md": render_markdown(report).encode(),
        json_uri: render_json(report),
    }
    for uri, data in files.items():
        write_bytes(uri, data)
    return json_uri
