"""Pages of a wiki's export as Markdown: Confluence's HTML, any other HTML, and Markdown as it stands.

markdownify writes headings, lists, tables and code with its language; around the page's own content (Confluence's #main-content, else main, article or
body) nothing is kept: no menus, names of authors, lists of attachments, scripts.
"""

import re
from pathlib import Path
from typing import Any

from codemix_megatron.readers.documents import BadDocument, decode_file

__all__ = ["HTML_SUFFIXES", "page_markdown", "read_page"]

HTML_SUFFIXES = (".html", ".htm")
CONTENT = ("#main-content", "main", "article", "body")
LEFT_OUT = (
    "script, style, nav, header, footer, aside, form, noscript, template, iframe, .page-metadata, .breadcrumb-section, #footer, .toc-macro"
)
BRUSH = re.compile(r"brush:\s*([\w+#-]+)")
BLANK_LINES = re.compile(r"\n{3,}")
CONTENTS_PAGE = re.compile(r"\A(?:index|toc|table-of-contents)\.html?\Z", re.IGNORECASE)


def read_page(path: Path) -> tuple[str, str] | BadDocument:
    """Return (title, Markdown) of a page's file, or why there is none."""
    found = decode_file(path.read_bytes(), str(path))
    if isinstance(found, BadDocument):
        return found
    if path.suffix.lower() not in HTML_SUFFIXES:
        return path.stem, found.text
    if CONTENTS_PAGE.match(path.name):
        return BadDocument(str(path), "a list of pages", harmless=True)
    try:
        title, markdown = page_markdown(found.text)
    except RecursionError:
        return BadDocument(str(path), "nested too deeply")
    return (title or path.stem, markdown) if markdown else BadDocument(str(path), "a page without content", harmless=True)


def page_markdown(html: str) -> tuple[str, str]:
    """Return the title and the content of an HTML page as Markdown, beginning with the title."""
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    soup = BeautifulSoup(html, "html.parser")
    title = title_of(soup)
    content = next((found for name in CONTENT if (found := soup.select_one(name))), soup)
    for element in content.select(LEFT_OUT):
        element.decompose()
    converter = MarkdownConverter(heading_style="ATX", code_language_callback=code_language, strip=["img"], escape_misc=False)
    markdown = BLANK_LINES.sub("\n\n", converter.convert_soup(content)).strip()
    if title and markdown and not markdown.startswith(f"# {title}"):
        markdown = f"# {title}\n\n{markdown}"
    return title, markdown + "\n" if markdown else ""


def title_of(soup: Any) -> str:
    """Return the title of a page, without the name of the space before it."""
    heading = soup.select_one("#title-text") or soup.select_one("title") or soup.select_one("h1")
    text = " ".join(heading.get_text().split()) if heading else ""
    return text.partition(" : ")[2] or text


def code_language(element: Any) -> str:
    """Return the language of a block of code, as Confluence and highlighters say it."""
    if brush := BRUSH.search(element.get("data-syntaxhighlighter-params") or ""):
        return brush[1]
    inner = element.find("code")
    classes = [*(element.get("class") or ()), *((inner.get("class") or ()) if inner else ())]
    return next((name.partition("-")[2] for name in classes if name.startswith(("language-", "lang-"))), "")
