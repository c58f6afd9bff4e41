"""Which files and folders are images, and what the others are, judged by their names alone."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import features

from coview.core.text import plural

# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".avif",
})
"""The suffixes of image files; the content decides only whether an image is usable."""

_OPTIONAL = {"avif": {".avif"}, "webp": {".webp"}, "jpg_2000": {".jp2", ".j2k", ".jpx"}}
"""Suffixes that Pillow reads only where it was built with a library, by its name for that."""

SERVICE_FOLDERS = frozenset({
    "@eadir", "@tmp", "@sharebin", "@recycle", "@recently-snapshot", "@__thumb", "#recycle",
    "#snapshot", "~snapshot", "__macosx", "$recycle.bin", "recycler", "recycled",
    "system volume information", "lost+found", "found.000", "network trash folder",
    "temporary items", "__pycache__", "node_modules",
})
"""Folders that a NAS, a system or a tool keeps beside images, in lower case; they are never data.
Names that begin with a dot are passed over as well (.Trashes, .thumbnails, .ipynb_checkpoints)."""

CACHE_TAG = "CACHEDIR.TAG"
"""The file that marks a cache (https://bford.info/cachedir/): what lies there is no data."""

SERVICE_FILES = frozenset({
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "icon\r",
})


@dataclass(frozen=True, slots=True)
class OtherKind:
    """A kind of file that may hold pictures, which Coview cannot read, and what to do about it."""

    name: str
    suffixes: frozenset[str]
    remedy: str


def _kind(name: str, suffixes: str, remedy: str) -> OtherKind:
    return OtherKind(name, frozenset(f".{suffix}" for suffix in suffixes.split()), remedy)


OTHER_KINDS = (
    _kind("HEIC photograph", "heic heif hif", "convert them to JPEG first"),
    _kind("raw photograph",
          "3fr arw cr2 cr3 crw dcr dng erf fff iiq k25 kdc mef mos mrw nef nrw orf pef raf raw rw2 "
          "rwl sr2 srf srw x3f",
          "develop them to JPEG or 16-bit TIFF first"),
    _kind("JPEG XL image", "jxl", "convert them to PNG first"),
    _kind("editor's file", "psd psb xcf kra clip afphoto ai indd",
          "export them as PNG or JPEG first"),
    _kind("drawing", "svg svgz eps ps emf wmf cdr", "render them as PNG first"),
    _kind("PDF file", "pdf djvu", "extract the pictures first"),
    _kind("video", "mp4 m4v mov avi mkv webm mts m2ts wmv mpg mpeg 3gp flv ogv",
          "extract frames as images first"),
    _kind("scientific image",
          "dcm dicom nii mha mhd nrrd czi nd2 lif lsm vsi svs ndpi mrxs scn exr hdr fit fits",
          "convert them to 16-bit PNG or TIFF first"),
    _kind("file of arrays", "npy npz mat h5 hdf5 pt pkl pickle tfrecord tfrecords mdb lmdb rec",
          "pass the arrays in Python, or write the images as files"),
    _kind("archive", "zip gz tgz 7z rar bz2 xz zst", "unpack them first"),
)
_SIGNATURES = (
    (4, b"ftyphei", "a HEIC photograph"), (4, b"ftyphev", "a HEIC photograph"),
    (4, b"ftypmif1", "a HEIC photograph"), (4, b"JXL ", "a JPEG XL image"),
    (0, b"\xff\x0a", "a JPEG XL image"), (0, b"8BPS", "a Photoshop file"),
    (0, b"%PDF", "a PDF file"), (4, b"ftyp", "a video"), (0, b"<", "a web page or a drawing"),
)
# fmt: on


def kind_of_content(start: bytes) -> str:
    """What a file is that begins with these bytes and is no image that can be read.

    >>> kind_of_content(bytes(4) + b"ftypheic")
    'a HEIC photograph under the name of another format; convert it to JPEG'
    """
    for offset, signature, name in _SIGNATURES:
        if start[offset:].startswith(signature):
            if name == "a HEIC photograph":
                return f"{name} under the name of another format; convert it to JPEG"
            return f"not an image: {name}"
    return "not an image, or of an unknown format"


def is_service_folder(name: str) -> bool:
    """Whether a folder of this name is kept by a NAS, a system or a tool, and holds no data."""
    return name.lower() in SERVICE_FOLDERS or name.lower().endswith(".lrdata")


@functools.cache
def readable_suffixes() -> frozenset[str]:
    """The suffixes of images that this Pillow can read."""
    missing = (suffixes for name, suffixes in _OPTIONAL.items() if not features.check(name))
    return IMAGE_SUFFIXES.difference(*missing)


def other_kind(suffix: str) -> OtherKind | None:
    """The kind of a file that Coview cannot read; None where it is not known to hold pictures.

    >>> other_kind(".nef").name, other_kind(".txt")
    ('raw photograph', None)
    """
    if suffix in IMAGE_SUFFIXES - readable_suffixes():
        name = f"{suffix[1:].upper()} image"
        remedy = "install a Pillow that reads them (pip install --upgrade pillow)"
        return OtherKind(name, frozenset({suffix}), remedy)
    return next((kind for kind in OTHER_KINDS if suffix in kind.suffixes), None)


def describe_others(counts: Mapping[str, int]) -> list[str]:
    """A sentence for each kind of unreadable pictures among files counted by suffix.

    >>> describe_others({".heic": 20, ".txt": 1})
    ['20 HEIC photographs (.heic) cannot be read; convert them to JPEG first.']
    """
    by_kind: dict[OtherKind, list[str]] = {}
    for suffix in sorted(counts):
        if (kind := other_kind(suffix)) is not None:
            by_kind.setdefault(kind, []).append(suffix)
    return [
        f"{plural(sum(counts[suffix] for suffix in suffixes), kind.name, _many(kind.name))} "
        f"({', '.join(suffixes)}) cannot be read; {kind.remedy}."
        for kind, suffixes in by_kind.items()
    ]


def _many(name: str) -> str:
    return "files of arrays" if name == "file of arrays" else f"{name}s"
