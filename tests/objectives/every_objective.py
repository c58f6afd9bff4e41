"""Every objective on embeddings as a function of two views, for what must hold for all of them."""

import torch

from coview.objectives import (
    decoupled_nt_xent,
    info_nce,
    margin_triplet,
    negative_cosine,
    nt_logistic,
    nt_xent,
    sup_con,
)


def labels(images):
    return torch.arange(images) % 3 - 1


def marks(images):
    """Marks [images, 4] with rows of none, one and several."""
    places = torch.arange(images)[:, None] * torch.tensor([3, 5, 7, 11])
    return (places % 13) < 4


# Whole numbers, the same in every precision; drawn here, as torch 2.11 compiles no generator.
NEGATIVES = torch.randint(-4, 5, (20, 32), generator=torch.Generator().manual_seed(9))


def queue(view):
    return NEGATIVES[:, : view.shape[1]].to(view.dtype)


def with_queue(views, temperature, **how):
    negatives = queue(views[0])
    ids, negative_ids = torch.arange(len(views[0])), torch.arange(len(negatives)) % 7 - 1
    return info_nce(
        *views,
        negatives=negatives,
        ids=ids,
        negative_ids=negative_ids,
        temperature=temperature,
        **how,
    )


AT_TEMPERATURE = {
    "nt_xent": lambda v, t, **how: nt_xent(v, temperature=t, **how),
    "decoupled": lambda v, t, **how: decoupled_nt_xent(v, temperature=t, **how),
    "sup_con out": lambda v, t, **how: sup_con(v, labels(len(v[0])), temperature=t, **how),
    "sup_con in": lambda v, t, **how: sup_con(
        v, labels(len(v[0])), temperature=t, form="in", **how
    ),
    "sup_con marks": lambda v, t, **how: sup_con(v, marks(len(v[0])), temperature=t, **how),
    "sup_con capped": lambda v, t, **how: sup_con(
        v, labels(len(v[0])), temperature=t, positives_cap=3, **how
    ),
    "sup_con capped in": lambda v, t, **how: sup_con(
        v, marks(len(v[0])), temperature=t, positives_cap=3, form="in", **how
    ),
    "info_nce": lambda v, t, **how: info_nce(*v, temperature=t, **how),
    "info_nce ids": lambda v, t, **how: info_nce(
        *v, temperature=t, ids=torch.arange(len(v[0])) // 2, **how
    ),
    "info_nce queue": with_queue,
    "nt_logistic": lambda v, t, **how: nt_logistic(v, temperature=t, **how),
    "nt_logistic mined": lambda v, t, **how: nt_logistic(
        v, temperature=t, mining="semi-hard", **how
    ),
}

WITHOUT_TEMPERATURE = {
    "margin_triplet": lambda v, **how: margin_triplet(v, margin=0.4, **how),
    "margin_triplet mined": lambda v, **how: margin_triplet(
        v, margin=0.4, mining="semi-hard", **how
    ),
    "negative_cosine": lambda v, **how: negative_cosine(*v, **how),
}


def at(temperature):
    """name -> function of two views, at one temperature where there is one."""

    def fixed(loss):
        return lambda v, **how: loss(v, temperature, **how)

    return {name: fixed(loss) for name, loss in AT_TEMPERATURE.items()} | WITHOUT_TEMPERATURE


NAMES = [*AT_TEMPERATURE, *WITHOUT_TEMPERATURE]
