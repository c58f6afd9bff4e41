"""What a verdict means, for a reader who knows none of the field's words."""

from __future__ import annotations

Words = tuple[str, str]
"""A headline of a few words, and one sentence."""

PRETRAINED: dict[str, Words] = {
    "learning": (
        "It has learned",
        "It recognizes images that it has never seen, better than before training and better than "
        "a comparison of their pixels does.",
    ),
    "too early": (
        "Too early to say",
        "It has not been trained for long enough to judge what it has learned.",
    ),
    "at chance": (
        "It has not learned",
        "To this network two versions of one image are no more alike than two different images.",
    ),
    "collapsed": (
        "Training has failed",
        "The network cannot tell images apart: it describes all of them alike, or its numbers grew "
        "beyond all bounds.",
    ),
    "dimensional collapse": (
        "Training has partly failed",
        "The network describes images by few properties only, so that many different images look "
        "the same to it.",
    ),
    "unusable data": (
        "These images cannot teach it",
        "They are copies of each other, or all have one label, so there is nothing to learn and "
        "nothing to measure it by.",
    ),
    "no better than pixels": (
        "It has learned too little",
        "It is better than before training, but a simple comparison of the pixels does as well.",
    ),
    "unchanged": (
        "It has not learned",
        "It recognizes images that it has never seen no better than before training.",
    ),
    "shortcut": (
        "It may have taken a shortcut",
        "A simple trait of the images, such as their colors, is enough for its task, so it may "
        "have learned nothing else.",
    ),
}
TRAINED: dict[str, Words] = {
    "learned": (
        "It has learned",
        "On images that this training has not used it does better than chance.",
    ),
    "too early": PRETRAINED["too early"],
    "at chance": (
        "It has not learned",
        "On images that this training has not used it does no better than chance.",
    ),
    "unusable data": (
        "These test images cannot judge it",
        "All of them are of one class, so they do not show whether it tells classes apart.",
    ),
    "collapsed": (
        "Training has failed",
        "The numbers of the network grew beyond all bounds, so that it can name nothing.",
    ),
    "overfitted": (
        "It has learned by heart",
        "It does better and better on the images that it was trained on, but not on new ones.",
    ),
    "no better than the linear probe": (
        "Training the whole network has not helped",
        "A simple classifier on the encoder as it was does as well on new images.",
    ),
    "no better than from scratch": (
        "What it started from has not helped",
        "The same network, trained on the same labels without it, does as well on new images.",
    ),
}
"""Of runs with labels: fine-tuning, detection."""
DISTILLED: dict[str, Words] = {
    **TRAINED,
    "learned": (
        "It has learned",
        "On images that this training has not used it gives the class that its teacher gives more "
        "often than by chance.",
    ),
    "at chance": (
        "It has not learned",
        "On images that this training has not used it gives the class that its teacher gives no "
        "more often than by chance.",
    ),
    "no better than from scratch": (
        "Its teacher has not helped",
        "The same network, trained on the labels alone, does as well on new images.",
    ),
}
OPEN = "Too few test images to be sure"
UNDECIDED: dict[str, dict[str, Words]] = {
    "distill": {
        "no better than from scratch": (
            OPEN,
            "Whether its teacher has helped is open: on so few images chance may give the "
            "difference to the same network, trained on the labels alone.",
        ),
    },
    "": {
        "no better than from scratch": (
            OPEN,
            "Whether what it started from has helped is open: on so few images chance may give the "
            "difference to the same network, trained on the same labels without it.",
        ),
        "no better than the linear probe": (
            OPEN,
            "Whether training the whole network has helped is open: on so few images chance may "
            "give the difference to a simple classifier on the encoder as it was.",
        ),
    },
}
"""Where "no better" is not shown, but may be."""
IS_BETTER = {
    "distill": ", and it is right more often than the same network trained on the labels alone.",
    "finetune": ", and better than what it is compared with here.",
    "detect": ", and better than what it is compared with here.",
}
"""What else is true of a run that has learned, where it was compared with a baseline."""
RUNNING: Words = (
    "Training is going on",
    "There is no verdict yet. What it does so far is below, and this page renews itself.",
)
STOPPED: Words = (
    "Stopped before its end",
    "There is no verdict yet. Nothing is lost: the run goes on exactly where it stopped.",
)


def words_of(
    kind: str, label: str, *, running: bool, is_compared: bool = False, undecided: bool = False
) -> Words:
    """Headline and sentence of a verdict; of a run without one, whether it is going.

    ``is_compared``: whether the verdict rests on a baseline too. ``undecided``: whether the test
    images are too few for the label, as verdict.json says.

    >>> words_of("pretrain", "unchanged", running=False)[0]
    'It has not learned'
    >>> words_of("pretrain", "", running=True)[0]
    'Training is going on'
    """
    if not label:
        return RUNNING if running else STOPPED
    table = {"pretrain": PRETRAINED, "distill": DISTILLED}.get(kind, TRAINED)
    if undecided:
        table = UNDECIDED.get(kind, UNDECIDED[""])
    headline, sentence = table.get(label) or (label.capitalize(), "")
    if label == "learned" and is_compared and kind in IS_BETTER:
        sentence = sentence.removesuffix(".") + IS_BETTER[kind]
    return headline, sentence
