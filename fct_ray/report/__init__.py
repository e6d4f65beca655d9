"""Report room: values in, JSON, Markdown, HTML and a console summary out; measures and decides nothing itself."""
