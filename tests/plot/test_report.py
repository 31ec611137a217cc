import re
from html.parser import HTMLParser

import pytest

import fairstem.plot as fp
from fairstem.errors import DataError
from fairstem.plot import report as r
from fairstem.priors import PriorCheck

PNG = fp.to_png(fp.image([[1, 2], [3, 4]]).image.get_figure())
VOID = {"meta", "img", "br", "link"}


class Balance(HTMLParser):
    """Every tag that opens closes, in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parse(page):
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    return balance.seen


def full():
    holds = PriorCheck("poisson", "counts are Poisson", 1.0, 1.2, "<=", "variance over mean", "give the gain")
    fails = PriorCheck("white", "residuals are noise", 3.0, 1.2, "<=", "chi-square", "free the width")
    blind = PriorCheck(
        "period", "the crystal repeats", float("nan"), 1, ">=", "peak height", "take a larger image"
    )
    return r.Report(
        "SrTiO₃ <80 kV>",
        [
            r.Section(
                "Found",
                [
                    r.Numbers([r.Number("lattice & cell", "0.3905", "0.0002", "nm", "known: 0.3905 nm")]),
                    r.Warnings(["the pixel size is missing"]),
                    r.Checks([holds, fails.to_dict(), blind]),
                    r.Picture(PNG, "caption", 'columns "on" the image'),
                    r.Picture(PNG, "second", "two", wide=True),
                    r.Prose("one\n\ntwo <b>"),
                ],
            ),
            r.Section("Found", [r.Table(["a", "b"], [["x", 1.23456], [True, float("nan")]], "cells")]),
            r.Section(
                "More", [r.Provenance([{"function": "find</pre>"}]), r.Citation(["us"])], summary="rest"
            ),
        ],
        subtitle="80 kV",
        footer="fairstem",
    )


def test_the_page_is_well_formed_and_escaped():
    page = full().to_html()
    parse(page)
    assert "SrTiO₃ &lt;80 kV&gt;" in page
    assert "find&lt;/pre&gt;" in page
    assert "<b>" not in re.sub(r"<b>(poisson|white|period)</b>", "", page)


def test_the_page_is_self_contained_and_needs_no_script():
    tags = parse(full().to_html())
    assert "script" not in {tag for tag, _ in tags}
    for _, attributes in tags:
        assert all(not (attributes.get(k) or "").startswith(("http", "//", "file")) for k in ("src", "href"))


def test_every_picture_has_an_alternative_text_and_its_size():
    pictures = [attributes for tag, attributes in parse(full().to_html()) if tag == "img"]
    assert [p["alt"] for p in pictures] == ['columns "on" the image', "two"]
    assert {int(p["width"]) for p in pictures} == {int.from_bytes(PNG[16:20], "big")}


def test_verdicts_and_advice():
    page = full().to_html()
    assert "✓ holds" in page
    assert "✗ does not hold" in page
    assert "– not measured" in page
    assert "free the width" in page
    assert "give the gain" not in page


def test_links_of_the_contents_lead_somewhere_unique():
    tags = parse(full().to_html())
    anchors = [a["id"] for _, a in tags if "id" in a]
    links = [a["href"][1:] for tag, a in tags if tag == "a"]
    assert anchors == links
    assert len(set(anchors)) == 3


def test_empty_parts_draw_nothing():
    for part in (r.Numbers([]), r.Warnings([]), r.Checks([]), r.Provenance([]), r.Citation([])):
        assert part.to_html() == ""
    parse(r.Report("empty", []).to_html())


def test_only_png_is_inlined():
    with pytest.raises(DataError, match="PNG"):
        r.Picture(b"GIF89a", "c", "a").to_html()
