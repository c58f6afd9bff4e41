"""pytest imports a file of tests by its bare name: two files of one name shadow each other."""

from collections import Counter
from pathlib import Path


def test_no_two_files_of_tests_share_a_name():
    counts = Counter(path.name for path in Path(__file__).parents[1].rglob("*.py"))
    assert [name for name, count in counts.items() if count > 1] == []
