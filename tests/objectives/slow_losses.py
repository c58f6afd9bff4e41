"""The equations of the papers as plain loops in float64; slow, and independent of the library."""

import math

import torch


def example(dtype=torch.float64):
    """The fixed input W[i, k] = cos(1 + i + 2k + ik), 3 images in 2 views, 4 wide."""
    rows = [[math.cos(1 + i + 2 * k + i * k) for k in range(4)] for i in range(6)]
    w = torch.tensor(rows, dtype=dtype)
    return [w[:3], w[3:]]


def random_views(views, images, width, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(images, width, generator=generator, dtype=dtype) for _ in range(views)]


def cosines(views):
    rows = [row.double() for view in views for row in view]
    return [[float(a @ b / (a.norm() * b.norm())) for b in rows] for a in rows]


def log_share(s, i, p, temperature):
    """log [ exp(s_ip / tau) / sum_{k != i} exp(s_ik / tau) ], by the largest term."""
    others = [s[i][k] / temperature for k in range(len(s)) if k != i]
    top = max(others)
    return s[i][p] / temperature - top - math.log(math.fsum(math.exp(o - top) for o in others))


def slow_nt_xent_rows(views, temperature):
    """Loss of every row: the mean over the other views of the same image."""
    s, images = cosines(views), len(views[0])
    result = []
    for i in range(len(s)):
        siblings = [p for p in range(len(s)) if p != i and p % images == i % images]
        shares = [log_share(s, i, p, temperature) for p in siblings]
        result.append(-math.fsum(shares) / len(siblings))
    return result


def slow_sup_con_rows(views, weights, temperature, form):
    """Loss of every row that has positives, for weights w[a][b] between images; a dict by row."""
    s, images = cosines(views), len(views[0])
    result = {}
    for i in range(len(s)):
        w = {p: float(weights[i % images][p % images]) for p in range(len(s)) if p != i}
        total = math.fsum(w.values())
        if total == 0:
            continue
        terms = [(w[p] / total, log_share(s, i, p, temperature)) for p in w if w[p] > 0]
        if form == "out":
            result[i] = -math.fsum(t * share for t, share in terms)
        else:
            result[i] = -math.log(math.fsum(t * math.exp(share) for t, share in terms))
    return result


def same_label(labels):
    """Weights between images: 1 where labels agree; an image labelled -1 only with itself."""
    return [
        [float(a == b or (y == z and y != -1)) for b, z in enumerate(labels)]
        for a, y in enumerate(labels)
    ]


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)
