"""What set objectives and pair objectives have in common."""

from __future__ import annotations

from typing import ClassVar


class Objective:
    """The loss of a method as a value. Subclasses are frozen dataclasses."""

    __slots__ = ()

    needs_teacher: ClassVar[bool] = False
    """Whether it compares logits with a teacher's, which its ``terms`` then get."""

    def in_words(self) -> str:
        """In a plan: its name, its parameters, and what it leaves in or out."""
        return type(self).__name__
