"""A page over all images of a data set: a local server, or one HTML file. Knows no network."""

from coview.browsing.annotations import Annotation, Annotations, Change
from coview.browsing.collection import Collection, Facet
from coview.browsing.page import write_page
from coview.browsing.server import BrowseServer

__all__ = [
    "Annotation",
    "Annotations",
    "BrowseServer",
    "Change",
    "Collection",
    "Facet",
    "write_page",
]
