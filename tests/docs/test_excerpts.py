"""What a page shows of an example is what stands there."""

import re

from .pages import DOCS, ROOT, read

PAGE = DOCS / "how-to/write-an-adapter.md"
EXAMPLE = ROOT / "examples/third_party_adapter"


def lines(text):
    """Its lines, whatever their indentation: the page shows the inside of classes and functions."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def test_excerpts_of_the_example_are_its_own_words():
    sources = [
        lines(read(file))
        for file in [*EXAMPLE.glob("src/*/*.py"), *EXAMPLE.glob("tests/*.py"), EXAMPLE / "pyproject.toml"]
    ]
    shown = re.findall(r"(?:<!-- skip: next -->\n```python|```toml)\n(.*?)^```", read(PAGE), re.DOTALL | re.MULTILINE)
    assert len(shown) == 18
    for excerpt in shown:
        assert any(lines(excerpt) in source for source in sources), excerpt
