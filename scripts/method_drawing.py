"""A method as a picture: views, encoder, heads, targets and what is compared, from its value.

The drawing shows what a ``Method`` says and nothing else, so that it is right for any method.
"""

from __future__ import annotations

from xml.sax.saxutils import escape

from coview.methods import (
    EMA,
    CrossEntropy,
    Distillation,
    Method,
    SameNetwork,
    StopGradient,
    Teacher,
)

WIDTH, ROW = 760, 74
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2330}.s{font-size:11px;fill:#5a6072}"
    ".b{fill:#eef1fb;stroke:#5468b0;stroke-width:1.2}.k{fill:#f6efe2;stroke:#a9772a;stroke-width:1.2}"
    ".o{fill:#e7f4ea;stroke:#3d8553;stroke-width:1.2}.v{fill:#fff;stroke:#8a90a3}"
    "path{fill:none;stroke:#5a6072;stroke-width:1.3}.d{stroke-dasharray:5 4}"
    "rect.bg{fill:#fff}"
)


class Picture:
    """Boxes and arrows in SVG."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def box(self, x: int, y: int, width: int, title: str, under: str = "", kind: str = "b") -> None:
        self.parts.append(
            f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="44" rx="6"/>'
        )
        middle, shift = x + width // 2, 20 if under else 27
        self.text(middle, y + shift, title)
        if under:
            self.text(middle, y + 36, under, small=True)

    def text(
        self, x: int, y: int, text: str, *, small: bool = False, anchor: str = "middle"
    ) -> None:
        style = ' class="s"' if small else ""
        self.parts.append(
            f'<text{style} x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def arrow(self, x1: int, y1: int, x2: int, y2: int, *, dashed: bool = False) -> None:
        style = ' class="d"' if dashed else ""
        self.parts.append(f'<path{style} d="M{x1} {y1} L{x2} {y2}" marker-end="url(#a)"/>')

    def document(self, height: int, title: str) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            f'width="{WIDTH}" aria-label="{escape(title)}"><style>{STYLE}</style>'
            '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z" style="fill:#5a6072"/>'
            f'</marker></defs><rect class="bg" width="{WIDTH}" height="{height}" rx="8"/>'
        )
        return "\n".join([head, *self.parts, "</svg>"]) + "\n"


def draw_method(method: Method) -> str:
    """``method`` as an SVG document: the branch of queries above, that of keys below.

    >>> from coview.methods import simclr
    >>> draw_method(simclr(32)).count("<rect")
    6
    """
    picture = Picture()
    has_keys = _key_branch(method)
    rows = 2 if has_keys else 1
    top, middle = 20, 20 + (rows - 1) * ROW // 2
    picture.box(12, middle, 62, "image", kind="v")
    _views(picture, method, middle)
    for row in range(rows):
        y = top + row * ROW
        picture.arrow(218, middle + 22, 238, y + 22)
        if row == 0:
            _query_branch(picture, method, y)
        else:
            _draw_keys(picture, method, y)
    _objective(picture, method, middle)
    notes = _notes(method)
    height = top + rows * ROW + 8 + 18 * len(notes)
    for number, note in enumerate(notes):
        picture.text(12, top + rows * ROW + 6 + 18 * number, note, small=True, anchor="start")
    return picture.document(height, f"{method.name}: {'; '.join(notes)}")


def _views(picture: Picture, method: Method, y: int) -> None:
    sizes = [view.size for view in method.views.views]
    counts = {size: sizes.count(size) for size in dict.fromkeys(sizes)}
    under = ", ".join(f"{count} × {size} px" for size, count in counts.items())
    picture.arrow(74, y + 22, 94, y + 22)
    picture.box(94, y, 124, "view" if len(sizes) == 1 else f"{len(sizes)} views", under, "v")


def _key_branch(method: Method) -> bool:
    """Whether keys come from elsewhere than the rows of the batch themselves."""
    if isinstance(method.objective, Distillation):
        return True
    return bool(method.pairs_views) and not isinstance(method.target, SameNetwork)


def _query_branch(picture: Picture, method: Method, y: int) -> None:
    picture.box(238, y, 100, "encoder f", "h")
    picture.arrow(338, y + 22, 358, y + 22)
    logits = isinstance(method.objective, CrossEntropy | Distillation)
    picture.box(358, y, 110, "classifier" if logits else "head g", "logits" if logits else "z")
    x = 468
    if method.predictor is not None:
        picture.arrow(x, y + 22, x + 16, y + 22)
        picture.box(x + 16, y, 94, "predictor q", "p")
        x += 110
    picture.arrow(x, y + 22, 604, y + 22 if not _key_branch(method) else y + 40)


def _draw_keys(picture: Picture, method: Method, y: int) -> None:
    target = method.target
    names = {
        EMA: ("f′", "g′", "moving average"), StopGradient: ("f", "g", "same weights"),
        Teacher: ("teacher", "classifier", "frozen"),
    }  # fmt: skip
    first, second, how = names[type(target)]
    picture.box(238, y, 100, f"encoder {first}" if first != "teacher" else "teacher", how, "k")
    picture.arrow(338, y + 22, 358, y + 22)
    key = "probabilities" if isinstance(target, Teacher) else "keys, no gradient"
    picture.box(358, y, 110, f"head {second}" if second != "classifier" else second, key, "k")
    x = 468
    if method.memory is not None:
        picture.arrow(x, y + 22, x + 16, y + 22)
        picture.box(x + 16, y, 94, "queue", "earlier keys", "k")
        x += 110
    picture.arrow(x, y + 22, 604, y + 4)
    if isinstance(target, EMA):
        picture.arrow(288, y - ROW + 44, 288, y, dashed=True)


def _objective(picture: Picture, method: Method, middle: int) -> None:
    name = type(method.objective).__name__
    picture.box(604, middle, 144, name, _compared(method), "o")


def _compared(method: Method) -> str:
    if isinstance(method.objective, Distillation):
        return "student and teacher"
    if not method.pairs_views:
        return "with labels" if method.needs_labels else "all rows of the batch"
    return "queries and keys"


def _notes(method: Method) -> list[str]:
    """What boxes and arrows do not say, as short lines."""
    notes = []
    if method.pairs_views and not isinstance(method.objective, Distillation):
        arrows = ", ".join(f"{pair.query} → {pair.key}" for pair in method.pairing)
        shown = arrows if len(method.pairing) <= 8 else f"{len(method.pairing)} pairs of views"
        notes.append(f"query view → key view: {shown}")
    if isinstance(method.target, EMA):
        notes.append("dashed: the weights of the lower network follow those of the upper one")
    if method.repulsion is not None:
        seen = ", ".join(map(str, method.repulsion.views))
        critic = type(method.repulsion.affinity).__name__
        notes.append(f"the local views {seen} of one image repel each other, by {critic}")
    if isinstance(method.objective, Distillation):
        notes.append("the student gives a view the probabilities that the teacher gives it")
    if not notes:
        notes.append(
            "each row is compared with its other view and with all other rows"
            if not method.needs_labels
            else "the label of the image says what belongs together"
        )
    return notes
