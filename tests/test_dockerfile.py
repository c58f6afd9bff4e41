"""The Dockerfile by rules, since no container is built here: it parses, and what it copies is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
INSTRUCTIONS = {
    "FROM",
    "ENV",
    "RUN",
    "COPY",
    "USER",
    "WORKDIR",
    "ENTRYPOINT",
    "CMD",
    "ARG",
    "LABEL",
}


def instructions():
    """(instruction, arguments) in order, with continued lines joined."""
    text = (ROOT / "Dockerfile").read_text()
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    text = re.sub(r"\\\n\s*", " ", text)
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def arguments(name):
    return [rest for word, rest in instructions() if word == name]


def test_instructions_are_known_and_the_base_has_a_version():
    words = [word for word, _ in instructions()]
    assert words[0] == "FROM"
    assert set(words) <= INSTRUCTIONS, set(words) - INSTRUCTIONS
    (base,) = arguments("FROM")
    assert re.fullmatch(r"python:3\.\d+-slim", base), "the public name of the image, with a version"


def test_what_is_copied_is_in_the_repository_and_not_ignored():
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    for rest in arguments("COPY"):
        *sources, _ = rest.split()
        for source in sources:
            assert (ROOT / source).exists(), f"{source} is missing"
            assert source in kept, f".dockerignore leaves out {source}"


def test_packages_leave_no_lists_and_come_from_no_other_place():
    text = (ROOT / "Dockerfile").read_text()
    assert not re.search(r"https?://|--index-url|--extra-index-url", text)
    for rest in arguments("RUN"):
        if "apt-get install" in rest:
            assert "apt-get update" in rest
            assert "--no-install-recommends" in rest
            assert "rm -rf /var/lib/apt/lists" in rest
        if "pip install" in rest:
            assert "PIP_NO_CACHE_DIR=1" in " ".join(arguments("ENV"))


def test_extras_are_declared():
    table = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1]
    (extras,) = re.findall(r"/src\[(.*?)\]", " ".join(arguments("RUN")))
    for extra in extras.split(","):
        assert re.search(rf"^{extra} = ", table, re.MULTILINE), extra


def test_it_runs_as_a_user_and_starts_the_command_itself():
    words = [word for word, _ in instructions()]
    (user,) = arguments("USER")
    assert user not in {"root", "0"}
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert arguments("ENTRYPOINT") == ['["coview"]'], "the exec form hands signals to coview"
