"""Forms of pages, as a browser would send them."""

from html.parser import HTMLParser


def confirmed(page):
    """The form as a browser would send it, unchanged."""

    class Form(HTMLParser):
        def __init__(self):
            super().__init__()
            self.values, self.select, self.area = {}, None, None

        def handle_starttag(self, tag, attrs):
            given = dict(attrs)
            is_off = given.get("type") in ("radio", "checkbox") and "checked" not in given
            if tag == "input" and given.get("name") and not is_off:
                self.values[given["name"]] = given.get("value", "")
            if tag == "select":
                self.select = given["name"]
            if tag == "textarea":
                self.area = given["name"]
                self.values[self.area] = ""
            if (
                tag == "option"
                and self.select
                and ("selected" in given or self.select not in self.values)
            ):
                self.values[self.select] = given.get("value", "")

        def handle_data(self, data):
            if self.area:
                self.values[self.area] += data

        def handle_endtag(self, tag):
            if tag == "select":
                self.select = None
            if tag == "textarea":
                self.area = None

    form = Form()
    form.feed(page)
    return form.values
