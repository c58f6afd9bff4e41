"""README.md and README.ko.md say the same: commands, links, pictures and structure."""

import re

from page_blocks import ROOT, blocks_of

ENGLISH, KOREAN = ROOT / "README.md", ROOT / "README.ko.md"


def commands(path):
    """(language, lines without comments) of every block."""
    return [
        (block.language, [re.sub(r"\s*#.*", "", line) for line in block.text.splitlines()])
        for block in blocks_of(path)
    ]


def structure(path):
    """What each line of the text is: a heading of a level, a row of so many cells, an item."""
    found = []
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for line in text.splitlines():
        if heading := re.match(r"#+ ", line):
            found.append(heading[0])
        elif line.startswith("|"):
            found.append(("row", line.count("|")))
        elif line.startswith("- "):
            found.append("item")
    return found


def targets(path):
    """Links in order, without those from one README to the other."""
    links = re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    return [link for link in links if not link.startswith("README")]


def code_of(path):
    """Words in backticks outside of blocks; order may differ within a sentence."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return sorted(word for word in re.findall(r"`([^`\n]+)`", text) if "README" not in word)


def figures_of(path):
    """Numbers with a unit of measurement: 86.5 %, 113 s."""
    text = path.read_text(encoding="utf-8").replace("초가", " s ").replace("초", " s")
    return sorted(re.findall(r"(\d[\d.,]*) (?:%|s\b)", text))


def test_both_have_the_same_blocks():
    assert commands(ENGLISH) == commands(KOREAN)


def test_both_have_the_same_structure():
    assert structure(ENGLISH) == structure(KOREAN)


def test_both_lead_to_the_same_pages():
    assert sorted(targets(ENGLISH)) == sorted(targets(KOREAN))


def test_both_name_the_same_commands_and_options():
    assert code_of(ENGLISH) == code_of(KOREAN)


def test_both_have_the_same_figures():
    assert figures_of(ENGLISH) == figures_of(KOREAN)


def test_the_korean_page_is_korean():
    text = re.sub(
        r"```.*?```|`[^`]*`|\]\([^)]*\)", "", KOREAN.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    paragraphs = [p for p in text.split("\n\n") if len(p) > 150]
    for paragraph in paragraphs:
        letters = re.findall(r"[가-힣]", paragraph)
        assert len(letters) > 40, paragraph


def test_every_verb_is_named_on_the_first_page_or_by_the_list_of_commands():
    from coview.cli.verbs import VERBS

    words = set(re.findall(r"coview (\w+)", ENGLISH.read_text(encoding="utf-8")))
    quiet = {"report", "cache", "recipes", "push"}  # docs/commands.md has them
    assert set(VERBS) - quiet <= words, set(VERBS) - quiet - words
