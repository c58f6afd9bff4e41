"""Whose checkpoint it is: the layouts of other programs, each as a table of prefixes of names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coview.core.errors import InvalidValue, UnknownName
from coview.encoders.exchange.weights import join_names
from coview.importing.names import State, state_of

ENCODER, HEAD, CLASSIFIER = "encoder", "head", "classifier"
ROLES = (ENCODER, HEAD, CLASSIFIER)

Rules = tuple[tuple[str, str], ...]
"""Prefix of a name -> its role, or in words what it is and why it is left out. The first counts."""

TEACHER = "the momentum encoder, a running mean of the encoder"
PREDICTOR = "the predictor, which only training uses"
QUEUE = "the queue of keys"
OTHER_HEADS = "other heads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One layout.

    marks: sets of prefixes; a file that has tensors under every prefix of one set is of this kind.
    rules: what each tensor is; a name that no rule fits is refused. license: of the weights that
    the program's authors publish. images: "imagenet" where training normalized with ImageNet's mean
    and std, "unknown" where it depends on the run, "none" for [0, 1]. entry: where in the file the
    tensors are, before the usual places.
    """

    name: str
    title: str
    rules: Rules
    marks: tuple[tuple[str, ...], ...] = ()
    license: str | None = None
    images: str = "imagenet"
    entry: tuple[str, ...] = ()


PLAIN: Rules = (("", ENCODER),)

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="moco", title="MoCo v1 or v2", marks=(("encoder_q.",),),
            rules=(("encoder_q.fc.", HEAD), ("encoder_q.", ENCODER), ("encoder_k.", TEACHER),
                   ("queue", QUEUE)),
            license="MIT by the LICENSE file of its repository since January 2023, CC BY-NC 4.0 by "
            "its README",
        ),
        Kind(
            name="moco-v3", title="MoCo v3", marks=(("base_encoder.", "momentum_encoder."),),
            rules=(("base_encoder.fc.", HEAD), ("base_encoder.", ENCODER),
                   ("momentum_encoder.", TEACHER), ("predictor.", PREDICTOR)),
            license="CC BY-NC 4.0",
        ),
        Kind(
            name="simsiam", title="SimSiam", marks=(("encoder.fc.", "predictor."),),
            rules=(("encoder.fc.", HEAD), ("encoder.", ENCODER), ("predictor.", PREDICTOR)),
            license="CC BY-NC 4.0",
        ),
        Kind(
            name="supcontrast", title="SupContrast",
            marks=(("encoder.", "head."), ("encoder.", "fc.")),
            rules=(("encoder.", ENCODER), ("head.", HEAD), ("fc.", CLASSIFIER)),
            license="BSD-2-Clause", images="unknown",
        ),
        Kind(
            name="solo-learn", title="solo-learn",
            marks=(("backbone.", "projector."), ("backbone.", "classifier."),
                   ("encoder.", "projector.")),
            rules=(("backbone.", ENCODER), ("encoder.", ENCODER), ("projector.", HEAD),
                   ("classifier.", CLASSIFIER), ("momentum_", TEACHER),
                   ("predictor.", PREDICTOR), ("queue", QUEUE),
                   ("prototypes.", "the prototypes, which only training uses")),
            license="MIT (the program; for weights ask who trained them)", images="unknown",
        ),
        Kind(
            name="lightly", title="lightly",
            marks=(("backbone.", "projection_head."), ("student_backbone.",)),
            rules=(("backbone.", ENCODER), ("student_backbone.", ENCODER),
                   ("projection_head.layers.", HEAD), ("student_head.layers.", HEAD),
                   ("backbone_momentum.", TEACHER), ("teacher_backbone.", TEACHER),
                   ("projection_head_momentum.", TEACHER), ("teacher_head.", TEACHER),
                   ("prediction_head.", PREDICTOR), ("", "other parts of the module")),
            license="MIT (the program; for weights ask who trained them)",
        ),
        Kind(
            name="lightly-train", title="lightly-train's export",
            rules=(("fc.", "the last layer, which pretraining does not train"),
                   ("classifier.", "the last layer, which pretraining does not train"),
                   ("", ENCODER)),
            license="AGPL-3.0 or a commercial license, which by its makers covers the weights",
        ),
        Kind(
            name="vissl", title="VISSL", marks=(("trunk.",), ("_feature_blocks.",)),
            rules=(("trunk._feature_blocks.", ENCODER),
                   ("trunk.base_model._feature_blocks.", ENCODER), ("_feature_blocks.", ENCODER),
                   ("heads.0.clf.", HEAD), ("heads.", OTHER_HEADS)),
            license="MIT (the program and its published weights)",
            entry=("classy_state_dict", "base_model", "model"),
        ),
        Kind(
            name="byol", title="official BYOL, converted to PyTorch", rules=PLAIN,
            license="Apache-2.0 (the repository of the original)",
        ),
        Kind(
            name="byol-pytorch", title="byol-pytorch", marks=(("online_encoder.net.",),),
            rules=(("online_encoder.net.fc.", "the last layer, which BYOL does not train"),
                   ("online_encoder.net.", ENCODER), ("online_encoder.projector.", HEAD),
                   ("net.", "the same network under another name"),
                   ("target_encoder.", TEACHER), ("online_predictor.", PREDICTOR)),
            license="MIT (the program; for weights ask who trained them)",
        ),
        Kind(
            name="pytorch-byol", title="PyTorch-BYOL", marks=(("encoder.", "projetion."),),
            rules=(("encoder.", ENCODER), ("projetion.net.", HEAD)),
            license="MIT (the program; for weights ask who trained them)", images="none",
            entry=("online_network_state_dict",),
        ),
        Kind(
            name="timm", title="timm", rules=PLAIN,
            license="see the model's card: timm's own weights are Apache-2.0, others vary",
        ),
        Kind(
            name="torchvision", title="torchvision", rules=PLAIN,
            license="BSD-3-Clause (the library; its weights were trained on ImageNet)",
        ),
    )
}  # fmt: skip

USUAL_ENTRIES: tuple[tuple[str, ...], ...] = (
    ("state_dict",), ("model_state_dict",), ("model",), ("net",), (),
)  # fmt: skip


def find_state(content: Any) -> dict[tuple[str, ...], State]:
    """The mappings of a file that may hold the network: where in the file -> its tensors.

    >>> import torch
    >>> list(find_state({"state_dict": {"fc.weight": torch.zeros(1)}, "epoch": 3}))
    [('state_dict',)]
    """
    entries = [kind.entry for kind in KINDS.values() if kind.entry]
    found: dict[tuple[str, ...], State] = {}
    for entry in (*entries, *USUAL_ENTRIES):
        part = content
        for name in entry:
            part = part.get(name) if isinstance(part, Mapping) else None
        if not entry and found:
            break  # the whole file holds the optimizer's tensors too
        if not entry and isinstance(part, Mapping):
            part = {name: value for name, value in part.items() if not isinstance(value, Mapping)}
        if state := state_of(part):
            found[entry] = state
    return found


def recognize(states: Mapping[tuple[str, ...], State]) -> tuple[Kind, tuple[str, ...]]:
    """The kind by its marks, and the entry with its tensors; torchvision's names have no marks.

    >>> import torch
    >>> recognize({(): {"encoder_q.conv1.weight": torch.zeros(1)}})[0].title
    'MoCo v1 or v2'
    """
    for entry, state in states.items():
        for kind in KINDS.values():
            if any(all(_has(state, prefix) for prefix in marks) for marks in kind.marks):
                return kind, entry
    return KINDS["torchvision"], next(iter(states))


def _has(state: State, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in state)


def kind_named(name: str) -> Kind:
    """The kind with this name. Raises UnknownName."""
    if name not in KINDS:
        raise UnknownName("kind of checkpoint", name, [*KINDS, "simclr"])
    return KINDS[name]


def split(state: State, kind: Kind, source: str) -> tuple[dict[str, State], dict[str, int]]:
    """(the tensors of each role without their prefix, what is left out and how many tensors).

    Raises InvalidValue for a tensor that no rule of the kind fits, and without an encoder.

    >>> import torch
    >>> state = {"encoder_q.fc.weight": torch.zeros(1), "queue": torch.zeros(1)}
    >>> state["encoder_q.conv1.weight"] = torch.zeros(1)
    >>> split(state, KINDS["moco"], "x.pth")[1]
    {'the queue of keys': 1}
    """
    roles: dict[str, State] = {}
    left: dict[str, int] = {}
    unknown: list[str] = []
    for name, tensor in state.items():
        prefix, role = next((rule for rule in kind.rules if name.startswith(rule[0])), ("", ""))
        if not role:
            unknown.append(name)
        elif role in ROLES:
            roles.setdefault(role, {})[name.removeprefix(prefix)] = tensor
        else:
            left[role] = left.get(role, 0) + 1
    if unknown:
        raise InvalidValue(
            f"{source} is not in the layout of {kind.title}, which has no such tensors as "
            f"{join_names(unknown)} ({len(unknown)} in all). Nothing was imported; name "
            "another `kind`, or save the encoder's state dict alone."
        )
    if ENCODER not in roles:
        raise InvalidValue(f"{source} has no encoder in the layout of {kind.title}.")
    if HEAD in roles and OTHER_HEADS in left:  # they may be links of one chain
        count = len(roles.pop(HEAD)) + left.pop(OTHER_HEADS)
        left["the projection head (it is of several heads, which may be one behind another)"] = (
            count
        )
    return roles, left
