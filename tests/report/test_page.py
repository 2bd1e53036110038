"""The page: well-formed, escaped, self-contained, with the plots that the runs call for."""

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from run_folders import make_run

from backattn.corpus import Sentence
from backattn.recipe import TransferRecipe
from backattn.report.inspection import Inspection, Prediction
from backattn.report.markup import element, render
from backattn.report.plots import SERIES_COLOURS, Point, Series, line_chart, round_ticks
from backattn.report.sentence_page import ListPage, Section, list_page, sentence_page
from backattn.report.tables import make_report

HOSTILE = "<script>alert('x')</script>&\"|\x00"


class Tags(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def read(html: str) -> Tags:
    ElementTree.fromstring(html.removeprefix("<!DOCTYPE html>\n"))  # strict: every tag closed, all escaped
    parser = Tags()
    parser.feed(html)
    parser.close()
    return parser


def make_page(cache: Path) -> str:
    make_report(["es"], cache)
    return (cache / "es" / "report" / "report.html").read_text("utf-8")


def fill(cache: Path, sizes: tuple[int, ...], **options: object) -> None:
    for sentences in sizes:
        for seed in (1, 2):
            for inputs in ("words", "words+transfer"):
                make_run(cache / "es" / "runs", inputs, seed, sentences=sentences, **options)


def test_the_page_is_well_formed_and_needs_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path, (500, 2000))
    html = make_page(tmp_path)
    seen = read(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(seen.tags)
    assert not [
        name for name, _ in seen.attributes if name in ("src", "href", "xlink:href") or name[:2] == "on"
    ]
    assert "url(" not in html
    assert "@import" not in html
    assert "prefers-color-scheme: dark" in html
    assert "width=device-width" in html


@pytest.mark.parametrize(("sizes", "plots"), [((500,), 1), ((500, 2000), 4), ((5, 50, 500), 5)])
def test_a_learning_curve_where_there_are_sizes_and_training_curves_for_each(
    tmp_path: Path, sizes: tuple[int, ...], plots: int
) -> None:
    fill(tmp_path, sizes)
    html = make_page(tmp_path)
    assert len(re.findall(r'class="plot"', html)) == plots
    assert ("Learning curve" in html) == (len(sizes) > 1)
    assert "Dev F1 by epoch, 500 training sentences" in html


def test_one_epoch_and_one_seed_still_make_a_page(tmp_path: Path) -> None:
    make_run(tmp_path / "es" / "runs", epochs=1)
    read(make_page(tmp_path))


def test_names_from_the_data_are_escaped(tmp_path: Path) -> None:
    text = HOSTILE.replace("\0", "")  # a request with NUL is refused
    make_run(tmp_path / "es" / "runs", types={HOSTILE: (1, 1, 1)}, tagger={"characters": text})
    make_run(tmp_path / "es" / "runs", "words+transfer", tagger={"precision": text})
    html = make_page(tmp_path)
    assert "script" not in read(html).tags
    assert "&lt;script&gt;" in html
    assert "\x00" not in html


def chart(html: str, title: str) -> str:
    """The SVG of one plot, and the caption before it."""
    (found,) = re.findall(rf"<figure>(?:(?!</figure>).)*<title>{re.escape(title)}</title>.*?</figure>", html)
    return found


def test_the_learning_curve_says_what_it_shows(tmp_path: Path) -> None:
    """Logarithmic in x, both models, a band of one deviation each: read back from the drawing."""
    fill(tmp_path, (80, 400, 8000))
    make_run(tmp_path / "es" / "runs", "words", 3, sentences=400)
    html = make_page(tmp_path)
    drawing = chart(html, "Test F1 by training sentences")
    assert "(band: ± standard deviation over 2 to 3 seeds)" in drawing
    assert "training sentences (logarithmic)" in drawing
    assert all(f">{size}</text>" in drawing for size in ("80", "400", "8,000"))
    assert "BiLSTM+CRF+BAN: " in drawing
    assert "BiLSTM+CRF: " in drawing
    rows = make_report(["es"], tmp_path).langs[0].tables[0].rows
    base = [row.measures["Overall"] for row in rows if row.inputs == "words"]
    places = [tuple(map(float, xy)) for xy in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawing)][:3]
    xs = [x for x, _ in places]
    assert (xs[1] - xs[0]) / (xs[2] - xs[0]) == pytest.approx(math.log(5) / math.log(100), abs=0.01)
    band = re.findall(r'<polygon points="([^"]*)" class="b0"', drawing)[0].split()
    heights = [float(place.split(",")[1]) for place in band]
    upper, lower = heights[:3], heights[:2:-1]
    # Pixels in a point of F1, from two means; the band's half height is a deviation.
    scale = (places[0][1] - places[1][1]) / (100 * (base[1].mean - base[0].mean))
    for high, low, measure in zip(upper, lower, base, strict=True):
        assert (low - high) / 2 == pytest.approx(abs(scale) * 100 * (measure.deviation or 0), abs=0.2)


def test_a_model_of_one_size_is_no_line(tmp_path: Path) -> None:
    fill(tmp_path, (80, 400))
    make_run(tmp_path / "es" / "runs", "random", sentences=400, transfer="random-512")
    html = make_page(tmp_path)
    assert "BiLSTM+CRF+random: " not in chart(html, "Test F1 by training sentences")
    assert "BiLSTM+CRF+random: " in chart(html, "Dev F1 by epoch, 400 training sentences")


def test_the_lift_over_the_sizes_has_its_interval_and_its_zero(tmp_path: Path) -> None:
    fill(tmp_path, (80, 400, 8000))
    drawing = chart(make_page(tmp_path), "Lift by training sentences")
    assert "Lift over the base by training sentences (band: 95 % interval)" in drawing
    assert "BiLSTM+CRF: " not in drawing  # the base has none
    assert len(re.findall('class="axis"', drawing)) == 1 + 3 + 1  # below, three ticks, no lift


def test_settings_make_their_own_lines(tmp_path: Path) -> None:
    fill(tmp_path, (500, 2000))
    fill(tmp_path, (500,), epochs=8)
    html = make_page(tmp_path)
    read(html)
    drawing = chart(html, "Dev F1 by epoch, 500 training sentences")
    assert "<span>BiLSTM+CRF+BAN, 8 epochs</span>" in html
    assert "BiLSTM+CRF+BAN, 3 epochs" not in html  # the usual ones
    assert "BiLSTM+CRF+BAN, 8 epochs" not in chart(html, "Test F1 by training sentences")
    assert len(re.findall("<path [^>]*stroke-width", drawing)) == 4


def test_a_line_goes_on_where_only_other_epochs_are(tmp_path: Path) -> None:
    """All sentences are often trained for fewer epochs; base and +BAN go on alike, and it is said."""
    fill(tmp_path, (80, 400))
    fill(tmp_path, (80,), epochs=8)
    fill(tmp_path, (8000,), epochs=2)
    drawing = chart(make_page(tmp_path), "Test F1 by training sentences")
    assert "; trained 2 to 3 epochs</figcaption>" in drawing
    assert len(re.findall("<circle", drawing)) == 2 * 3
    assert len(re.findall("BiLSTM\\+CRF\\+BAN: ", drawing)) == 3


def test_lines_are_of_the_same_epochs_at_each_size(tmp_path: Path) -> None:
    """What one model has of other epochs alone is no point of its line."""
    fill(tmp_path, (80, 400))
    runs = tmp_path / "es" / "runs"
    make_run(runs, "random", sentences=400, transfer="random-512")
    make_run(runs, "random", sentences=80, transfer="random-512", epochs=8)
    make_run(runs, "random", sentences=8000, transfer="random-512")
    drawing = chart(make_page(tmp_path), "Test F1 by training sentences")
    assert len(re.findall("BiLSTM\\+CRF\\+random: ", drawing)) == 2
    assert "epochs: " not in drawing


def test_lines_of_the_learning_curve_have_looks_of_their_own(tmp_path: Path) -> None:
    """There are fewer looks than rows: those that are drawn together come first."""
    for number in range(30):
        make_run(tmp_path / "es" / "runs", sentences=80, tagger={"dropout": number / 100})
    fill(tmp_path, (80, 400), tagger={"dropout": 0.9})
    drawing = chart(make_page(tmp_path), "Test F1 by training sentences")
    assert set(re.findall('<circle [^>]*class="d([0-9])"', drawing)) == {"0", "1"}


def test_a_difference_of_one_seed_has_no_colour(tmp_path: Path) -> None:
    for seeds, coloured in (((1,), 0), ((1, 2), 1)):
        for seed in seeds:
            for inputs, skill in (("words", 0.3), ("words+transfer", 0.9)):
                make_run(tmp_path / str(coloured) / "es" / "runs", inputs, seed, skill=skill)
        html = make_page(tmp_path / str(coloured))
        assert html.count('<td class="good">') == coloured


def test_many_rows_can_be_told_apart(tmp_path: Path) -> None:
    """No two lines share both colour and dashes; beyond four lines bars replace the bands."""
    for inputs in ("words", "words+transfer", "random"):
        for embeddings in ([], ["charlm"], ["bert"], ["charlm", "bert"]):
            for size in (500, 2000):
                make_run(
                    tmp_path / "es" / "runs", inputs, sentences=size, tagger={"embeddings": embeddings},
                    embeddings=dict.fromkeys(embeddings, "1-aa"), epochs=20,
                )  # fmt: skip
    html = make_page(tmp_path)
    (first, *_) = re.findall(r'<ul class="legend">.*?</ul>', html)
    looks = re.findall(
        r'class="(s\d)" stroke-width="2.2" stroke-linejoin="round"( stroke-dasharray="[^"]*")?', first
    )
    assert len(looks) == len(set(looks)) == 12
    drawing = chart(html, "Lift by training sentences")
    assert "(bars: 95 % interval)" in drawing
    assert "<polygon" not in drawing
    assert len(re.findall(r'd="M[\d.]+ [\d.]+V[\d.]+M[\d.]+ [\d.]+V[\d.]+"', drawing)) == 8
    assert "Dev F1 by epoch, 500 training sentences, mean over one seed</figcaption>" in html


def test_an_axis_of_measured_values_holds_them_all() -> None:
    points = tuple(Point(x, 1, 0, 2) for x in (0.31, 0.358, 0.645))
    drawing = line_chart([Series("a", 0, points)], title="t", x_label="x", y_label="y")
    places = [float(x) for x in re.findall(r'cx="([\d.]+)"', drawing)]
    assert (places[1] - places[0]) / (places[2] - places[0]) == pytest.approx(0.048 / 0.335, abs=0.002)
    assert 46 < places[0] < 80
    assert 390 < places[2] < 426
    assert ">0.4</text>" in drawing


@given(st.text())
def test_any_text_is_safe_in_an_element_and_its_attributes(value: str) -> None:
    html = element("p", value, {"title": value})
    parser = Tags()
    parser.feed(html)
    parser.close()
    assert parser.tags == ["p"]
    assert element("p", element("b", value)) == f"<p>{element('b', value)}</p>"


PAGE = ["html", "head", "meta", "meta", "meta", "title", "style", "body"]


@given(st.text(min_size=1))
def test_any_text_is_safe_on_a_page(value: str) -> None:
    """At every place of a page at once: nothing adds an element, and nothing is lost."""
    shown = Inspection(
        lang=value, sentence=Sentence((value,), (f"S-{value}",)), places=(value,), gap=" ", english=(value,),
        english_tags=(f"S-{value}",), attention=np.full((2, 2), 0.5, np.float32), transfer=TransferRecipe(),
        predictions=(Prediction(value, value, (f"S-{value}",)),), remarks=(value,),
    )  # fmt: skip
    plain = Inspection(**{**vars(shown), "lang": "a", "remarks": ("a",)})
    tags = read(sentence_page(shown)).tags
    assert tags == read(sentence_page(plain)).tags
    assert tags[: len(PAGE)] == PAGE
    table = {"table", "thead", "tbody", "tr", "th", "td"}
    assert set(tags) == {*PAGE, "main", "h1", "h2", "p", "span", "small", "div", "script", *table}
    sections = (Section(value, value, value, 1, ((shown, (1, 0)),)),)
    tags = read(list_page(ListPage(value, ((value, value),), sections, report=True))).tags
    assert tags[: len(PAGE)] == PAGE
    listed = {"nav", "a", "ul", "li", "ol", "section", "fieldset", "legend", "label", "input"}
    assert set(tags) == {*PAGE, *listed, "main", "h1", "h2", "p", "span", "small"}


def test_a_value_that_a_page_lacks_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'title' is undefined"):
        render("base.html.j2")


def test_the_style_has_every_colour_of_a_plot() -> None:
    style = render("style.css.j2")
    for number in range(SERIES_COLOURS):
        assert style.count(f"--s{number}: #") == 2  # light and dark
        assert f"svg .s{number} {{" in style
    assert f".s{SERIES_COLOURS}" not in style


values = st.floats(0, 100, allow_nan=False)


@given(st.lists(st.tuples(values, values, values), min_size=1, max_size=20), st.booleans())
def test_every_point_lies_within_the_drawing(rows: list[tuple[float, float, float]], sizes: bool) -> None:
    points = tuple(Point(i, sorted(r)[1], min(r), max(r)) for i, r in enumerate(rows, 1))
    ticks = [p.x for p in points] if sizes else []
    chart = line_chart([Series("a", 0, points)], title="t", x_label="x", y_label="y", x_ticks=ticks)
    ElementTree.fromstring(chart)
    places = [tuple(map(float, xy)) for xy in re.findall(r"([\d.-]+),([\d.-]+)", chart)]
    places += [tuple(map(float, xy)) for xy in re.findall(r'cx="([\d.-]+)" cy="([\d.-]+)"', chart)]
    assert all(40 <= x <= 440 and 0 <= y <= 280 for x, y in places)


@given(values, values, st.integers(2, 9))
def test_ticks_are_round_and_enclose(low: float, high: float, wanted: int) -> None:
    low, high = sorted((low, high))
    ticks = round_ticks(low, high, wanted)
    slack = 1e-6 * max(1.0, high)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert 2 <= len(ticks) <= wanted + 3
