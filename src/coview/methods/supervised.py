"""Supervised learning by cross-entropy: the baseline that the papers compare with."""

from __future__ import annotations

from coview.heads import HeadSpec
from coview.methods.method import Method
from coview.methods.set_objectives import CrossEntropy
from coview.views import ViewPlan, simclr_views


def supervised(size: int, *, classes: int = 1000, views: ViewPlan | None = None) -> Method:
    """Logits = W f(view) + b for each view of an image with label y:

        loss = mean over views of -log softmax(logits)_y

    The encoder and the views of SimCLR, a linear classifier for a head, so that a comparison
    differs in nothing but the objective. A run sets ``classes`` to those of its data. Unlabeled
    images are left out of the mean.
    """
    return Method(
        name="supervised",
        views=views or simclr_views(size),
        head=HeadSpec(layers=1, output=classes, batch_norm="none", bias="all"),
        objective=CrossEntropy(classes=classes),
    )
