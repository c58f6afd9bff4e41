"""A contact sheet of what the model will see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from coview.core.errors import InvalidValue
from coview.core.options import takes
from coview.core.rng import CONTACT_SHEET_IMAGES, Stream, permutation
from coview.core.user_code import import_files
from coview.data.spec import DataSpec
from coview.options import ViewsOptions
from coview.planning.defaults import default_recipe
from coview.planning.plan import typical_side
from coview.recipes import METHODS, change, find_recipe, refuse_dense
from coview.recipes import recipe as recipe_named
from coview.training import choose_device
from coview.views import contact_sheet


@takes(ViewsOptions)
def draw_views(options: ViewsOptions) -> Path:
    """Write a PNG of a few images of ``data`` and of the views that the recipe makes of them.

    Broken files among those drawn are left out. Raises InvalidValue and UnknownName.

    >>> draw_views("scenes", images=2, out="views.png").name
    'views.png'
    """
    import_files(options.import_)
    out, recipe = options.out, find_recipe(options.recipe)
    refuse_dense(recipe)
    if options.images < 1:
        raise InvalidValue(f"`images` is {options.images}; expected at least 1.")
    spec = DataSpec.of(options.data, options, size=options.size, seed=options.seed)
    limit = options.images if options.limit is None else min(options.limit, options.images)
    store = replace(spec, labels_from="none", limit=limit, allow_broken=True).open(options.data)
    if recipe in METHODS:
        recipe = default_recipe(
            str(recipe), side=typical_side(store), images=len(store),
            device=choose_device("auto").type,
        )  # fmt: skip
    elif isinstance(recipe, str):
        recipe = recipe_named(recipe)
    recipe = change(
        recipe, size=options.size, jitter_strength=options.jitter_strength,
        local_crops=options.local_crops, affinity=options.affinity,
    )  # fmt: skip
    rows = permutation(options.seed, Stream.HEALTH, store.ids, draw_index=CONTACT_SHEET_IMAGES)
    contact_sheet(store, rows, recipe.method.views, out, seed=options.seed)
    return out
