"""Where a classifier stands, by the graph in the .meta file of a TensorFlow checkpoint."""

from __future__ import annotations

import re
from pathlib import Path

from coview.core.files import read_content
from coview.importing import protobuf

CLASSIFIER = re.compile(r"(?:^|/)head_supervised/linear_layer/dense/MatMul$")
HEAD_LAYER = re.compile(r"(?:^|/)head_contrastive(?:_\d+)?/n?l_(\d+)[_/]")
MOST_STEPS = 200


def classifier_layer(path: Path) -> int | None:
    """The layer of the projection head that the classifier takes; 0 is h. None if not known.

    A MetaGraphDef has its GraphDef in field 2, a GraphDef its nodes in field 1, and a NodeDef has
    its name, its operation and its inputs in fields 1, 2 and 3.
    """
    content = read_content(path)
    if content is None:
        return None
    try:
        nodes = _inputs(content)
    except (ValueError, IndexError, UnicodeDecodeError):
        return None
    name = next((name for name in nodes if CLASSIFIER.search(name)), None)
    for _ in range(MOST_STEPS):
        inputs = nodes.get(name or "", [])
        if not inputs:
            return None
        name = inputs[0].removeprefix("^").partition(":")[0]
        if match := HEAD_LAYER.search(name):
            return int(match[1]) + 1
        if name.endswith("final_avg_pool"):
            return 0
    return None


def _inputs(content: bytes) -> dict[str, list[str]]:
    graph = protobuf.fields(protobuf.data(protobuf.fields(content), 2))
    nodes = (protobuf.fields(node) for node in protobuf.every(graph, 1))
    return {
        protobuf.data(node, 1).decode(): [each.decode() for each in protobuf.every(node, 3)]
        for node in nodes
    }
