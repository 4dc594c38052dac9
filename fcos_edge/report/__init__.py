"""Pages that people look at, made of the JSON that the verbs write. Needs jinja2 and matplotlib."""
