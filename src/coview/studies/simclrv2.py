"""SimCLRv2's pipeline (Chen et al., 2020): pretrain big, fine-tune from the middle of the
projection head on few labels, distill into the same network and from there into a small one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coview.core.errors import InvalidValue, UnknownName
from coview.core.run_folder import RunFolder, is_run
from coview.data.labels import check_labels, names_a_file, share_of_labels
from coview.data.spec import DataSpec
from coview.encoders import EncoderSpec, parse_encoder
from coview.options import StudyOptions
from coview.planning.defaults import default_distillation, default_finetuning
from coview.recipes import Recipe, change, recipe
from coview.recipes.finetune import for_label_share
from coview.runs.run import Run
from coview.studies.cell import Cell, Existing, Work
from coview.studies.execution import Study
from coview.studies.experiment import IMAGES, OF_CHAIN, TRAINED, CustomExperiment
from coview.studies.grid import CARD_RECIPES, CARD_SELECTION
from coview.studies.setting import SCALES, data_settings, ordered
from coview.studies.simclrv2_table import Entry, claims_about, summarize
from coview.training import choose_device

CLAIM = (
    "A large network that was pretrained without labels needs few of them: fine-tuned from the "
    "middle of its projection head it is far better than the same network from scratch. What it "
    "knows can be distilled, without labels, into itself and into a small network."
)
MIDDLE = 1
"""The layer of the head that SimCLRv2 fine-tunes from (section 2.2)."""


def chain(options: StudyOptions) -> Study:
    """The whole pipeline for every share of the labels and every draw of them.

    Raises InvalidValue for options that do not go together, RunError where ``pretrained`` is no
    ended run.
    """
    plan = ChainPlan.of(options)
    entries: list[Entry] = []
    fewest = min(plan.labels, key=plan.share)
    for draw in range(options.draws):
        for labels in plan.labels:
            tuned = plan.tuned(labels, draw, MIDDLE)
            alike = plan.distilled(tuned, labels, draw)
            small = plan.distilled(alike, labels, draw, student=options.student)
            entries.append(Entry(labels=labels, draw=draw, tuned=tuned, alike=alike, small=small))
    layers = {
        (layer, draw): plan.tuned(fewest, draw, layer)
        for layer in plan.layers
        for draw in range(options.draws)
    }
    first = [] if isinstance(plan.pretrained, Existing) else [plan.pretrained]
    compared = [cell for cell in layers.values() if cell not in [e.tuned for e in entries]]
    # The whole pipeline at the fewest labels comes first: what is stopped has said the most.
    cells = [*first]
    for labels in sorted(plan.labels, key=plan.share):
        here = [entry for entry in entries if entry.labels == labels]
        cells += [entry.tuned for entry in here]
        cells += compared if labels == fewest else []
        cells += [cell for entry in here for cell in (entry.alike, entry.small)]
    return Study(
        name="simclrv2/chain", claim=CLAIM, cells=tuple(cells),
        card=lambda root: plan.card(root, entries),
        claims=tuple(claim.text for claim in claims_about(fewest)),
        images=lambda: len(DataSpec.of(options.data, options, needs_labels=True).open()),
        summarize=lambda root: summarize(root, entries, layers, fewest), scale=options.scale,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainPlan:
    """What the cells of a chain share; ``size``: of the views, which every stage takes from
    pretraining."""

    options: StudyOptions
    pretrained: Cell | Existing
    encoder: EncoderSpec
    size: int
    layers: tuple[int, ...]
    labels: tuple[str, ...]
    device: str

    @classmethod
    def of(cls, options: StudyOptions) -> ChainPlan:
        if options.draws < 1:
            raise InvalidValue(f"`draws` is {options.draws}; expected 1 or more.")
        labels = tuple(word.strip() for word in options.labels.split(","))
        for word in labels:
            check_labels(word)
            if names_a_file(word):
                raise InvalidValue(
                    f"`labels` {word} is a file, of which there are no several draws; give shares "
                    "or numbers such as 1%,10%."
                )
        parse_encoder(options.student)
        device = choose_device(options.device).type
        base = recipe(options.recipe or f"simclr-v2-{'cifar' if device == 'cuda' else 'cpu'}")
        if options.pretrained is not None:
            if options.encoder is not None or options.epochs is not None:
                raise InvalidValue(
                    "`pretrained` takes the place of pretraining; leave out `encoder` and `epochs`."
                )
            pretrained: Cell | Existing = Existing.at(options.pretrained)
            base = Run.open(options.pretrained).recipe
            encoder = base.encoder
        else:
            encoder = base.encoder if options.encoder is None else parse_encoder(options.encoder)
            pretrained = _pretraining(options, base, encoder)
        head = base.method.head.layers
        if head < MIDDLE + 1:
            raise InvalidValue(
                f"The recipe {base.name} has {head} layers in its head, which has no middle; "
                "take a recipe with two or more, such as simclr-v2-cpu."
            )
        return cls(
            options=options, pretrained=pretrained, encoder=encoder, size=base.image_size,
            labels=labels,
            layers=tuple(_layer(word.strip(), head) for word in options.layers.split(",")),
            device=device,
        )  # fmt: skip

    def share(self, labels: str) -> float:
        """Of the images that have a label; that of a number of each class only orders them."""
        share = share_of_labels(labels)
        return int(labels.split("-")[0]) * 1e-9 if share is None else share

    def tuned(self, labels: str, draw: int, layer: int) -> Cell:
        """Fine-tuning from this layer of the head; from the middle one with its baselines."""
        options, middle = self.options, layer == MIDDLE
        share = self.share(labels)
        base = for_label_share(default_finetuning(self.device), share)
        epochs = options.finetune_epochs or base.epochs
        settings = {
            "start": self.pretrained, "labels": labels, "label_draw": draw, "from_layer": layer,
            "no_baselines": not middle, "epochs": epochs, "recipe": base.name,
        }  # fmt: skip
        work = Work(
            recipe=self.trained(base, self.encoder), passes=epochs * (2 if middle else 1),
            share=share,
        )  # fmt: skip
        return Cell(
            name=f"fine-tune on {labels} of the labels from layer {layer}, draw {draw}",
            verb="finetune", settings=self.with_data(settings), work=(work,),
        )  # fmt: skip

    def distilled(self, teacher: Cell, labels: str, draw: int, student: str | None = None) -> Cell:
        """Distillation on all images without labels; a small student is also trained on the
        labels alone."""
        options = self.options
        base = default_distillation(self.device)
        epochs = options.distill_epochs or base.epochs
        settings: dict[str, Any] = {"teacher": teacher, "epochs": epochs, "recipe": base.name}
        if student is not None:
            settings |= {
                "student": student, "labels": labels, "label_draw": draw, "teacher_weight": 1.0,
            }  # fmt: skip
        to = "itself" if student is None else student
        encoder = self.encoder if student is None else parse_encoder(student)
        made = self.trained(base, encoder)
        work = [Work(recipe=made, passes=epochs, teacher=self.encoder)]
        if student is not None:
            share = self.share(labels)
            alone = for_label_share(default_finetuning(self.device), share)
            made = self.trained(alone, encoder)
            work.append(Work(recipe=made, passes=alone.epochs, share=share))
        return Cell(
            name=f"distill the network of {labels} of the labels into {to}, draw {draw}",
            verb="distill", settings=self.with_data(settings), work=tuple(work),
        )  # fmt: skip

    def trained(self, base: Recipe, encoder: EncoderSpec) -> Recipe:
        """What a stage trains by the recipe ``base``, as far as its time depends on it."""
        return replace(change(base, size=self.size), encoder=encoder)

    @property
    def pretraining_epochs(self) -> float:
        if isinstance(self.pretrained, Existing):
            return Run.open(self.pretrained.path).recipe.epochs
        return epochs_of(self.pretrained)

    def with_data(self, settings: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
        return with_data(self.options, settings)

    def card(self, root: Path, entries: Sequence[Entry]) -> dict[str, Any]:
        """How the chain was measured."""
        tuned, alike = entries[0].tuned, entries[0].alike
        first = {entry.labels: entry.tuned for entry in entries if entry.draw == 0}
        tuning = ", ".join(f"{epochs_of(cell):g} ({labels})" for labels, cell in first.items())
        test = about_test(tuned, root) if self.options.test is None else str(self.options.test)
        return {
            "data": str(self.options.data),
            "test images": test,
            "scale": ", ".join((self.options.scale, *changes(self.options))),
            "labels": ", ".join(self.labels),
            "draws": self.options.draws,
            "seeds": str(self.options.seed),
            "epochs": f"pretraining {self.pretraining_epochs:g}, fine-tuning {tuning}, "
            f"distillation {epochs_of(alike):g}",
            "selection": CARD_SELECTION,
            **({} if self.device == "cuda" else {"recipes": CARD_RECIPES}),
            "intervals": "95 %, Student's t over the draws of labels; one pretraining, one seed",
            "tests": "one-sided at 2.5 %, paired by the draw; Holm over the claims",
            "pretraining": self.pretrained.path
            if isinstance(self.pretrained, Existing)
            else self.pretrained.folder(Path()).name,
            "encoder": self.encoder.label(),
            "student": parse_encoder(self.options.student).label(),
        }


def epochs_of(cell: Cell) -> float:
    """What its settings say."""
    return float(dict(cell.settings)["epochs"])


def about_test(tuned: Cell, root: Path) -> str:
    """The test images of a study without ``test``, by what the run of ``tuned`` has opened."""
    own = "the test part of the data"
    fifth = "a fifth of the labeled images, whose pixels pretraining has seen"
    if not is_run(tuned.folder(root)):
        return f"{own} where they have one, else {fifth}"
    return own if "+" in RunFolder(tuned.folder(root)).description["data"]["fingerprint"] else fifth


def _pretraining(options: StudyOptions, base: Recipe, encoder: EncoderSpec) -> Cell:
    epochs = options.epochs or base.epochs
    settings = {"recipe": base.name, "encoder": encoder, "epochs": epochs, "labels_from": "none"}
    return Cell(
        name="pretrain without labels", verb="pretrain",
        settings=with_data(options, settings, test=False),
        work=(Work(recipe=replace(base, encoder=encoder), passes=epochs),),
    )  # fmt: skip


def with_data(
    options: StudyOptions, settings: dict[str, Any], *, test: bool = True
) -> tuple[tuple[str, Any], ...]:
    """The settings of a cell with those of the data, and the seed, in the order of their names."""
    data = data_settings(options, data=options.data, test=options.test if test else None)
    return ordered({**data, "seed": options.seed, **settings})


def _layer(word: str, head: int) -> int:
    """The number of a layer of a head, of which "last" is one."""
    if word == "last":
        return head
    if not word.isdecimal() or int(word) > head:
        raise InvalidValue(
            f"`layers` has {word!r}; expected numbers from 0 to {head}, the layers of the "
            "projection head, or last."
        )
    return int(word)


SIZES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "limit": 160, "encoder": "resnet10/8-medium", "student": "resnet10/8-medium",
        "labels": "20%,50%", "draws": 2, "layers": "1,last", "epochs": 1, "finetune_epochs": 1,
        "distill_epochs": 1,
    },
    # Twelve distillations: of the recipe's 20 epochs of CIFAR-10 they take 80 minutes on two cores.
    "cpu": {"distill_epochs": 4.0},
    "paper": {"recipe": "simclr-v2-imagenet", "student": "resnet50"},
}  # fmt: skip
"""A scale -> options where none is given; what it leaves open is that of the device's recipes."""


def sized(options: StudyOptions) -> StudyOptions:
    """``options`` with those of the scale where they are the defaults. Raises UnknownName.

    >>> sized(StudyOptions(scale="tiny", draws=1)).draws, sized(StudyOptions(scale="tiny")).draws
    (1, 2)
    """
    if options.scale not in SCALES:
        raise UnknownName("scale", options.scale, SCALES)
    default = StudyOptions()
    sizes = SIZES.get(options.scale, {})
    # A run that takes the place of pretraining has its own network and length.
    known = () if options.pretrained is None else ("encoder", "epochs")
    unset = {
        name: to
        for name, to in sizes.items()
        if name not in known and getattr(options, name) == getattr(default, name)
    }
    return replace(options, **unset)


def changes(options: StudyOptions) -> tuple[str, ...]:
    """In words, what ``options`` give in place of the scale's.

    >>> changes(sized(StudyOptions(draws=5, epochs=60.0)))
    ('draws 5', 'epochs 60')
    """
    usual = sized(StudyOptions(scale=options.scale))
    given = {name: getattr(options, name) for name in (*OF_CHAIN, "encoder", "epochs", "limit")}
    return tuple(
        f"{name.replace('_', ' ')} {f'{to:g}' if isinstance(to, float) else to}"
        for name, to in sorted(given.items())
        if name != "pretrained" and to != getattr(usual, name)
    )


CHAIN = CustomExperiment(
    name="simclrv2/chain", question=CLAIM, make=lambda options: chain(sized(options)),
    takes=(*OF_CHAIN, *IMAGES, *TRAINED),
)  # fmt: skip
"""Its seeds are draws of labels."""
