"""Supervised learning by cross-entropy, the baseline of the papers."""

from __future__ import annotations

from coview.heads import HeadSpec
from coview.methods.method import Method
from coview.methods.set_objectives import CrossEntropy
from coview.views import ViewPlan, simclr_views


def supervised(size: int, *, classes: int = 1000, views: ViewPlan | None = None) -> Method:
    """Logits = W f(view) + b for each view of an image with label y:

        loss = mean over views of -log softmax(logits)_y

    The encoder and the views of SimCLR with a linear classifier as head, so that a comparison
    differs only in the objective. ``size`` is the side of the views in pixels; ``views`` replaces
    SimCLR's, and one view is enough. A run sets ``classes`` to the number of classes of its data.
    Unlabeled images are left out of the mean.

    >>> supervised(32, classes=10).head.output
    10
    """
    return Method(
        name="supervised",
        views=views or simclr_views(size),
        head=HeadSpec(layers=1, output=classes, batch_norm="none", bias="all"),
        objective=CrossEntropy(classes=classes),
    )
