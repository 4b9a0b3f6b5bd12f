"""Build the documentation site from the pages of the repository.

    .venv/bin/python scripts/docs_site/build.py [--serve]

Pages stay beside the code that they describe, with links that work on a forge. This script copies them to
`.site/pages`, adapts links that leave the pages, writes a reference page for each public module, and runs
mkdocs strictly: a broken link, a page outside the navigation, or an asset of another host fails the build.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES, HTML = ROOT / ".site" / "pages", ROOT / ".site" / "html"
CONFIG, COMPLETE = Path(__file__).parent / "mkdocs.yml", ROOT / ".site" / "mkdocs.yml"
IGNORED = re.compile(r"(^|/)(node_modules|dist|\.(?!github/))")
REFERENCE = {
    "bargein_server": "Agents and servers: the public names of the package.",
    "bargein_server.agents.chat_completions": "Agents for chat completions.",
    "bargein_server.agents.tools": "Tools that a model calls.",
    "bargein_server.agents.tool_loop": "Tool loops for agents of your own.",
    "bargein_server.agents.parallel": "Several agents in one turn.",
    "bargein_server.streams": "Operators over async generators.",
    "bargein_server.frameworks": "Agents of other frameworks, and histories in their forms.",
    "bargein_client": "The Python client.",
    "bargein_protocol": "The events of the wire protocol.",
}
LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
FOREIGN = re.compile(r"<(?:script|img|iframe|source)[^>]+src=\"?https?:|<link[^>]+href=\"?https?:")


class Broken(Exception):
    """The site cannot be built; the message names the page."""


def main() -> int:
    """Collect the pages and run mkdocs; returns the exit code."""
    shutil.rmtree(PAGES.parent, ignore_errors=True)
    try:
        found = sources()
        for source in found:
            collect(source)
        reference = [write_reference(module, purpose) for module, purpose in REFERENCE.items()]
        COMPLETE.write_text(configuration(found, reference), "utf-8")
        if "--serve" in sys.argv[1:]:
            return run("serve", "--dev-addr", "localhost:8080")
        if code := run("build", "--strict"):
            return code
        check_assets()
    except Broken as error:
        print(error, file=sys.stderr)
        return 1
    print(f"built {HTML.relative_to(ROOT)}/index.html")
    return 0


def run(*arguments: str) -> int:
    """Run mkdocs; returns its exit code."""
    command = [sys.executable, "-m", "mkdocs", *arguments, "--config-file", str(COMPLETE)]
    return subprocess.run(command, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=False).returncode


def sources() -> list[Path]:
    """Return every Markdown page of the repository, relative to its root."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    return sorted(path for path in found if not IGNORED.search(path.as_posix()))


def place(source: Path) -> Path:
    """Return the place of a file in the site."""
    if source == Path("README.md"):
        return Path("index.md")
    return Path("project", *source.parts[1:]) if source.parts[0] == ".github" else source


def collect(source: Path) -> None:
    """Copy a page with its links adapted, and the files that it links to."""
    fences = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
    parts = fences.split((ROOT / source).read_text("utf-8"))
    parts[::2] = [LINK.sub(lambda link: adapted(source, link[1]), part) for part in parts[::2]]
    target = PAGES / place(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(parts), "utf-8")


def adapted(source: Path, link: str) -> str:
    """Return the link of a page as it is in the site."""
    path, hash_, anchor = link.partition("#")
    if re.match(r"[a-z]+:", link) or not path:
        return link
    linked = Path(os.path.normpath(source.parent / path))
    if (ROOT / linked).is_dir():
        linked = linked / "README.md"
    if not (ROOT / linked).is_file():
        raise Broken(f"{source}: no file {path}")
    if linked.suffix != ".md":
        (PAGES / linked).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / linked, PAGES / linked)
    return os.path.relpath(place(linked), place(source).parent) + hash_ + anchor


def write_reference(module: str, purpose: str) -> Path:
    """Write the reference page of a module and return its place."""
    page = Path("reference") / f"{module}.md"
    (PAGES / page).parent.mkdir(parents=True, exist_ok=True)
    (PAGES / page).write_text(f"# {module}\n\n{purpose}\n\n::: {module}\n", "utf-8")
    return page


def configuration(found: list[Path], reference: list[Path]) -> str:
    """Return the configuration of mkdocs with a complete navigation."""

    def below(folder: str) -> str:
        return "".join(f"\n        - {place(path)}" for path in found if str(path).startswith(folder))

    text = CONFIG.read_text("utf-8")
    text = text.replace("../../.site/", "").replace("[../../", "[../").replace(" ../../", " ../")
    text = text.replace(" CLIENTS", below("clients/")).replace(
        " DECISIONS", below("scripts/speed/decisions/")
    )
    pages = "".join(f"\n        - {path.stem}: {path}" for path in reference)
    return text.replace(" REFERENCE", pages)


def check_assets() -> None:
    """Raise `Broken` when a page loads anything from another host."""
    for page in HTML.rglob("*.html"):
        if foreign := FOREIGN.search(page.read_text("utf-8")):
            raise Broken(f"{page.relative_to(HTML)} loads from another host: {foreign[0]}")


if __name__ == "__main__":
    sys.exit(main())
