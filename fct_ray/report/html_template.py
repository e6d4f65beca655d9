"""The Jinja template of report.html: one self-contained page, no script, no outside reference.

Owns: the page's structure and style. Every value is escaped by the renderer's autoescaping; plots come as markup.
"""

TEMPLATE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ report.job }}: {{ store_name }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f23; background: #fff; margin: 2rem auto; max-width: 62rem;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; overflow-wrap: anywhere; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.lead { background: #eef5fa; border-left: 4px solid #0072b2; padding: .6rem 1rem; }
.note { background: #fff6e6; border-left: 4px solid #d55e00; padding: .4rem 1rem; }
.sub, figcaption { color: #57606a; font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { border-bottom: 1px solid #d0d7de; padding: .35rem .6rem; text-align: right; }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; }
th { background: #f6f8fa; } tr.emphasized td { font-weight: 600; background: #fafbfc; }
figure { margin: 1.2rem 0; } figure svg { width: 100%; height: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; font-size: .9rem; }
dt { color: #57606a; } dd { margin: 0; overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>{{ report.job }}: {{ store_name }}</h1>
<p class="sub">{{ subtitle }}, {{ report.environment.time }}</p>
{% if sentences %}
<div class="lead">
{% for sentence in sentences %}<p>{{ sentence }}</p>
{% endfor %}
</div>
{% endif %}
{% for note in report.notes %}<p class="note">{{ note }}</p>
{% endfor %}
{% for table in tables %}
<section id="table-{{ table.name }}">
<h2>{{ table.title }}</h2>
<p>{{ table.sentence }}</p>
<div class="scroll"><table>
<thead><tr>{% for cell in table.header %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}
<tr{% if loop.index0 in table.emphasized %} class="emphasized"{% endif %}>
{%- for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table></div>
{% for plot in plots if plot.name == plot_of.get(table.name) %}
<figure id="plot-{{ plot.name }}">{{ plot.svg | safe }}<figcaption>{{ plot.caption }}</figcaption></figure>
{% endfor %}
</section>
{% endfor %}
<h2>Settings and environment</h2>
<dl>
<dt>machine</dt><dd>{{ report.environment.machine }}</dd>
{% for name, version in report.environment.versions.items() %}<dt>{{ name }}</dt><dd>{{ version }}</dd>
{% endfor %}
{% for name, value in report.settings.items() %}<dt>{{ name }}</dt><dd>{{ value }}</dd>
{% endfor %}
</dl>
</body>
</html>
"""
