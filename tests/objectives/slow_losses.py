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
        other_views = [p for p in range(len(s)) if p != i and p % images == i % images]
        shares = [log_share(s, i, p, temperature) for p in other_views]
        result.append(-math.fsum(shares) / len(other_views))
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
    """Weights between images: 1 where labels agree; an image labeled -1 only with itself."""
    return [
        [float(a == b or (y == z and y != -1)) for b, z in enumerate(labels)]
        for a, y in enumerate(labels)
    ]


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


def sharing(marks):
    """Weights between images: 1 where they have a mark in common; without any only with itself."""
    return [
        [
            float(a == b or any(x and y for x, y in zip(m, n, strict=True)))
            for b, n in enumerate(marks)
        ]
        for a, m in enumerate(marks)
    ]


def slow_capped_sup_con_rows(views, shares, cap, temperature, form):
    """Loss of every row with positives: own other views first, then rows in order, up to the cap."""
    s, images = cosines(views), len(views[0])
    result = {}
    for i in range(len(s)):
        positives = [p for p in range(len(s)) if p != i and shares[i % images][p % images]]
        own = [p for p in positives if p % images == i % images]
        kept = own + [p for p in positives if p not in own][: max(cap - len(own), 0)]
        if not kept:
            continue
        candidates = [k for k in range(len(s)) if k != i and (k in kept or k not in positives)]
        total = math.fsum(math.exp(s[i][k] / temperature) for k in candidates)
        ratios = [math.exp(s[i][p] / temperature) / total for p in kept]
        if form == "out":
            result[i] = -mean(math.log(ratio) for ratio in ratios)
        else:
            result[i] = -math.log(mean(ratios))
    return result


def slow_decoupled_rows(views, temperature):
    s, images = cosines(views), len(views[0])
    result = []
    for i in range(len(s)):
        other_views = [p for p in range(len(s)) if p != i and p % images == i % images]
        negatives = [k for k in range(len(s)) if k % images != i % images]
        total = math.fsum(math.exp(s[i][k] / temperature) for k in negatives)
        result.append(math.log(total) - mean(s[i][p] for p in other_views) / temperature)
    return result


def between(rows, others):
    return [[float(a @ b / (a.norm() * b.norm())) for b in others.double()] for a in rows.double()]


def softplus(x):
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def slow_logistic(u, v, temperature, mining=None, reduction="mean"):
    """One direction, anchors u and candidates v; the mean over the anchors."""
    losses = []
    for i, row in enumerate(between(u, v)):
        negatives = [s for j, s in enumerate(row) if j != i]
        if mining:
            negatives = [max(below)] if (below := [s for s in negatives if s < row[i]]) else []
        terms = [softplus(s / temperature) for s in negatives]
        total = math.fsum(terms) / (max(len(terms), 1) if reduction == "mean" else 1)
        losses.append(softplus(-row[i] / temperature) + total)
    return mean(losses)


def slow_triplet(u, v, margin, mining=None, reduction="mean"):
    """One direction, anchors u and candidates v; the mean over the anchors."""
    losses = []
    for i, row in enumerate(between(u, v)):
        negatives = [s for j, s in enumerate(row) if j != i]
        if mining:
            within = [s for s in negatives if row[i] - margin < s < row[i]]
            negatives = [max(within)] if within else []
        terms = [max(s - row[i] + margin, 0) for s in negatives]
        losses.append(math.fsum(terms) / (max(len(terms), 1) if reduction == "mean" else 1))
    return mean(losses)


def over_pairs(views, loss):
    """The mean of a one-direction loss over all ordered pairs of views."""
    pairs = [(a, b) for a in range(len(views)) for b in range(len(views)) if a != b]
    return mean(loss(views[a], views[b]) for a, b in pairs)


def slow_info_nce(query, key, negatives, temperature, ids=None, negative_ids=None):
    """Negatives None: the other queries' keys, with their ids."""
    losses = []
    for i, row in enumerate(between(query, key)):
        if negatives is None:
            negative_cosines = [(s, ids[j] if ids else -1) for j, s in enumerate(row) if j != i]
        else:
            row_of = between(query[i : i + 1], negatives)[0]
            negative_cosines = list(zip(row_of, negative_ids or [-1] * len(row_of), strict=True))
        left = [s for s, name in negative_cosines if ids is None or name == -1 or name != ids[i]]
        total = math.fsum(math.exp(s / temperature) for s in [row[i], *left])
        losses.append(math.log(total) - row[i] / temperature)
    return mean(losses)


def softmax(numbers):
    top = max(numbers)
    exponentials = [math.exp(x - top) for x in numbers]
    return [e / math.fsum(exponentials) for e in exponentials]
