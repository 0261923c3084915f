import itertools
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pyarrow.compute as pc
import pytest
from PIL import Image

import runs
from pointland.auditing.directory import read_run
from pointland.report import evidence, render_html, summarize, write_report
from pointland.report.html import LARGEST

NAMES = [f"{i}{text[:60]}".replace("/", "_") for i, text in enumerate(runs.HOSTILE)]
PLAIN = ("</script><script>", "<img src=x", "<svg onload", "<iframe", "<base", "<!--<script>", "{{ 7*7 }}")


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are not what these tests are about."""
    monkeypatch.setattr(evidence, "RESAMPLES", 10)


def page_of(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def check_safe(page: Page) -> None:
    """Only our own elements and attributes, no way to the network."""
    allowed = {"script", "style", "svg", "dialog", "template"}
    for tag, attrs in page.tags:
        assert tag not in {"iframe", "base", "object", "embed", "form", "link", "video", "audio"}, tag
        for name, value in attrs.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "style", tag
            if name in {"src", "href", "srcset", "action"}:
                assert re.match(r"data:image/webp;base64,|#|\.\./|\./", value or ""), (tag, value)
    assert sum(tag == "script" for tag, _ in page.tags) == 2
    assert sum(tag == "style" for tag, _ in page.tags) == 1
    assert allowed <= {tag for tag, _ in page.tags}


@pytest.mark.parametrize(
    "options",
    [
        {"n": 60, "n_reference": 100, "labels": True, "memorized": 25, "pictures": 10},
        {"n": 40, "n_reference": 0, "captions": False, "curve": False},
        {"n": 0, "n_reference": 0, "finished": False},
        {"n": 1, "n_reference": 1},
        {"n": 40, "captions": runs.HOSTILE, "names": NAMES},
        {"n": 30, "null_every": 1},
    ],
)
@pytest.mark.usefixtures("few_resamples")
def test_every_kind_of_run_renders_safely(tmp_path: Path, options: dict[str, object]) -> None:
    page = page_of(runs.build(tmp_path, **options))  # type: ignore[arg-type]  # options of the builder
    check_safe(page)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in page.tags:
        if tag == "a" and (attrs.get("href") or "").startswith("#"):
            assert (attrs["href"] or "")[1:] in ids
        if tag == "img":
            assert "alt" in attrs
        if tag == "th":
            assert attrs.get("scope") in {"row", "col"}
    opened = [tag for tag, _ in page.tags]
    charts = [i for i, (tag, attrs) in enumerate(page.tags) if tag == "svg" and attrs.get("class") == "chart"]
    assert all(opened[i + 1 : i + 3] == ["title", "desc"] for i in charts)
    assert opened.count("table") == opened.count("caption")
    levels = [int(tag[1]) for tag in opened if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert {"header", "nav", "main", "footer"} <= set(opened)
    assert sum(tag == "h1" for tag, _ in page.tags) == 1
    assert "nan" not in re.findall(r"[a-z]+", page.text.lower())


def test_hostile_captions_are_shown_as_text(tmp_path: Path) -> None:
    page = page_of(runs.build(tmp_path, 40, captions=runs.HOSTILE))
    for text in PLAIN:
        assert text in page.text
    assert "\x00" not in page.text
    assert "\x1b" not in page.text
    assert "(1,000,000 characters)" in page.text
    assert "‮evil" in page.text  # isolated by <bdi>


def test_data_for_the_script_is_json(tmp_path: Path) -> None:
    text = write_report(runs.build(tmp_path, 40, captions=runs.HOSTILE)).read_text(encoding="utf-8")
    data = json.loads(text.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    assert len(data["rows"]) == 40
    assert data["rows"][0]["u"].startswith("../images/")


def test_policy_names_exactly_our_style_and_script(tmp_path: Path) -> None:
    import base64
    import hashlib

    text = write_report(runs.build(tmp_path, 5)).read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    for kind in ("style", "script"):
        body = re.search(rf"<{kind}>(.*?)</{kind}>", text, re.S)
        assert body
        digest = base64.b64encode(hashlib.sha256(body[1].encode()).digest()).decode()
        assert f"{kind}-src &#39;sha256-{digest}&#39;" in policy[1] or f"{kind}-src 'sha256-{digest}'" in policy[1]
    assert "default-src 'none'" in policy[1]


def test_no_network_no_private_paths(tmp_path: Path) -> None:
    run = runs.build(tmp_path, 20, n_failed=3, pictures=3, command="pointland audit /home/alice/m /home/alice/pics")
    write_report(run)
    for name in ("report.html", "report.md", "summary.json"):
        text = (run / name).read_text(encoding="utf-8")
        assert not re.search(r"https?://", text)
        for secret in ("/home/", "alice", str(tmp_path), "/root/", "/tmp/"):
            assert secret not in text, (name, secret)


@pytest.mark.usefixtures("few_resamples")
def test_what_the_person_sees(tmp_path: Path) -> None:
    text = page_of(runs.build(tmp_path, 700, n_reference=399, memorized=200, n_failed=120, labels=True)).text
    assert "pictures are flagged as memorized at a false discovery rate of 5 %." in text
    assert "500 of 700 pictures" in text
    assert "The first 100 of 120 pictures" in text
    assert "must reach it together before any can be flagged" in text
    assert "No picture shown is where the audit read it" in text
    for heading in ("More copies, less dimension", "How well it separates", "Is it only simplicity", "At which scale"):
        assert heading in text


def test_links_name_the_file_exactly(tmp_path: Path) -> None:
    names = ["-rf .png", "a#b?c%20d.png", "q\"u'o.png", "e\u0301.png", "\u00e9.png", "🙂.png", "new\nline.png"]
    text = write_report(runs.build(tmp_path, 20, names=names, pictures=20)).read_text(encoding="utf-8")
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    from urllib.parse import unquote

    found = {unquote(row["u"]) for row in data["rows"]}
    assert {f"../images/{name}" for name in names} <= found
    assert all((tmp_path / "run" / path).resolve().is_file() for path in found)


def test_three_megabytes_with_500_noisy_thumbnails_and_100_000_rows(tmp_path: Path) -> None:
    run = runs.build(tmp_path, 100_000, n_reference=2_000, memorized=500, copies=False)
    draw = runs.noise(128)
    (tmp_path / "images").mkdir()
    lowest = (
        read_run(run).rows.filter(pc.field("role") == "audited").sort_by("denoising_loss_unconditional").slice(0, 500)
    )
    for place, file in enumerate(lowest["file"].to_pylist()):
        Image.fromarray(draw(place)).save(tmp_path / "images" / file, compress_level=1)
    started = time.perf_counter()
    path = write_report(run)
    seconds = time.perf_counter() - started
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size <= LARGEST
    assert text.count(' src="data:image/webp') == 500
    assert "left out" not in text
    print(f"{path.stat().st_size:,} bytes in {seconds:.1f} s")  # noqa: T201  # shown with -s


def test_thumbnails_beyond_the_budget_are_left_out_and_said(tmp_path: Path) -> None:
    run = read_run(runs.build(tmp_path, 600, copies=False))
    summary = summarize(run)
    picture = "data:image/webp;base64," + "A" * 8_000
    page = render_html(summary, {f"audited:{row['file']}": picture for row in summary["rows"]})
    assert len(page.encode()) <= LARGEST
    assert "left out, to keep this page below 3 MB" in page


def test_worst_text_still_fits(tmp_path: Path) -> None:
    captions = ["\"'<&>🙂" * 200 + str(i) for i in range(500)]
    run = runs.build(tmp_path, 500, captions=captions, names=[f"{'🙂' * 60}{i}.png" for i in range(500)])
    assert write_report(run).stat().st_size <= LARGEST


def test_writes_three_files_whole_and_the_same_again(tmp_path: Path) -> None:
    run = runs.build(tmp_path, 20, pictures=5)
    assert write_report(str(run)) == run / "report.html"
    first = {name: (run / name).read_bytes() for name in ("report.html", "report.md", "summary.json")}
    write_report(run)
    assert first == {name: (run / name).read_bytes() for name in first}
    assert not list(run.glob(".*.tmp"))
    assert json.loads(first["summary.json"])["schema_version"] == 1


def test_unreadable_pictures_are_placeholders(tmp_path: Path) -> None:
    run = runs.build(tmp_path, 20, pictures=4)
    (tmp_path / "images" / "000000.png").write_bytes(b"\x89PNG\r\n\x1a\n garbage")
    page = page_of(run)
    assert "17 of the 20 pictures shown are not where the audit read them" in page.text


def with_index(run: Path, index: str, *pages: str) -> Path:
    (run / "explain").mkdir()
    (run / "explain" / "index.json").write_text(index, encoding="utf-8")
    for name in pages:
        (run / "explain" / name).write_text("<!doctype html>", encoding="utf-8")
    return run


def test_explain_pages_are_linked_by_exact_key_where_they_exist(tmp_path: Path) -> None:
    hostile = '"><script>document.title=1</script>.png'
    run = runs.build(tmp_path, 20, names=["plain.png", hostile, "gone.png"], memorized=20)
    index = {"plain.png": "plain.html", hostile: "a-1_b.html", "gone.png": "gone.html", "nobody.png": "plain.html"}
    page = page_of(with_index(run, json.dumps(index), "plain.html", "a-1_b.html"))
    check_safe(page)
    links = [attrs for tag, attrs in page.tags if tag == "a" and attrs.get("class") == "explain"]
    assert sorted(str(link["href"]) for link in links) == 2 * ["./explain/a-1_b.html"] + 2 * ["./explain/plain.html"]
    assert {link["aria-label"] for link in links} == {"Explain Picture plain.png", f"Explain Picture {hostile}"}
    rows = json.loads((run / "summary.json").read_text(encoding="utf-8"))["rows"]
    assert {row["key"]: row["explained"] for row in rows if row["explained"]} == {
        "plain.png": "plain.html",
        hostile: "a-1_b.html",
    }


def test_without_an_index_nothing_is_linked(tmp_path: Path) -> None:
    assert "explain" not in {attrs.get("class") for _, attrs in page_of(runs.build(tmp_path, 20)).tags}


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd.html",
        "../report.html",
        "..",
        "a/b.html",
        "a\\b.html",
        "javascript:alert(1)//.html",
        "JaVaScRiPt:x.html",
        "//evil.example/x.html",
        "https://evil.example/x.html",
        "C:x.html",
        ".hidden.html",
        "a%2fb.html",
        'a".html',
        "a.html\n",
        "a .html",
        "a.html#x",
        "a.html?x",
        "\u202ea.html",
        "é.html",
        "a.svg",
        "",
        "x" * 300 + ".html",
        None,
        7,
        ["a.html"],
    ],
)
def test_names_that_are_no_plain_file_are_refused(tmp_path: Path, name: object) -> None:
    run = with_index(runs.build(tmp_path, 5, n_reference=0), json.dumps({"000000.png": name}))
    with pytest.raises(
        ValueError, match=r"explain/index\.json gives .* for the picture '000000\.png'; it needs the name"
    ):
        write_report(run)


@pytest.mark.parametrize(("index", "says"), [("[]", "holds a list"), ("{", "is not JSON"), ("[" * 100_000, "not JSON")])
def test_an_index_that_is_none_is_refused(tmp_path: Path, index: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        write_report(with_index(runs.build(tmp_path, 5, n_reference=0), index))


def test_a_link_to_a_page_elsewhere_is_not_followed(tmp_path: Path) -> None:
    run = with_index(runs.build(tmp_path, 5, n_reference=0), '{"000000.png": "a.html"}')
    (tmp_path / "secret.html").write_text("", encoding="utf-8")
    (run / "explain" / "a.html").symlink_to(tmp_path / "secret.html")
    assert "explain" not in {attrs.get("class") for _, attrs in page_of(run).tags}


def test_groups_of_copies_are_numbered_and_can_be_chosen(tmp_path: Path) -> None:
    run = runs.build(tmp_path, 40, n_reference=0)  # the first eight are copies in pairs
    page = page_of(run)
    rows = json.loads((run / "summary.json").read_text(encoding="utf-8"))["rows"]
    pairs: dict[int, set[str]] = {}
    for row in rows:
        if row["group"] is not None:
            pairs.setdefault(row["group"], set()).add(row["key"])
    assert sorted(map(sorted, pairs.values())) == [[f"{i:06d}.png", f"{i + 1:06d}.png"] for i in (0, 2, 4, 6)]
    for text in ("with copies (8)", "without copies (32)", "group 1: 2 pictures", "group 4: 2 pictures"):
        assert text in page.text
