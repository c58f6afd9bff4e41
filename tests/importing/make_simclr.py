"""Write tests/importing/fixtures/simclr-*.zip: checkpoints of the official SimCLR, by TensorFlow.

    pip install tensorflow-cpu tf-keras absl-py       # in an environment of its own
    git clone https://github.com/google-research/simclr
    python tests/importing/make_simclr.py simclr/

The networks are those of the official resnet.py and model_util.py, executed; only their width is
small. Each archive holds what tf.train.Saver has written (.index, .data, and .meta where a test
reads it) and expected.npz: images [n, S, S, 3] in [0, 1] and what TensorFlow computes from them in
evaluation mode: h, every layer of the head, and the logits. Weights are few different numbers, so
that the archives are small.
"""

import os
import sys
import tempfile
import zipfile
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import numpy as np
import tensorflow.compat.v1 as tf
from absl import flags

FOLDER = Path(__file__).with_name("fixtures")
CLASSES, OUTPUT = 5, 8


class Width:
    """A width multiplier below 1: the official code multiplies channel counts by it."""

    def __init__(self, divisor):
        self.divisor = divisor

    def __rmul__(self, channels):
        return channels // self.divisor


def define_flags():
    flags.DEFINE_float("sk_ratio", 0.0, "")
    flags.DEFINE_float("se_ratio", 0.0, "")
    flags.DEFINE_bool("global_bn", False, "")
    flags.DEFINE_float("batch_norm_decay", 0.9, "")
    flags.DEFINE_string("train_mode", "finetune", "")
    flags.DEFINE_integer("fine_tune_after_block", -1, "")
    flags.DEFINE_string("proj_head_mode", "nonlinear", "")
    flags.DEFINE_integer("proj_out_dim", OUTPUT, "")
    flags.DEFINE_integer("num_proj_layers", 3, "")
    flags.DEFINE_integer("ft_proj_selector", 0, "")
    flags.FLAGS(["make"])


def values_of(variables, seed):
    """Weights of 16 different numbers, norms of 8, so that an archive of them is small."""
    rng = np.random.default_rng(seed)
    values = {}
    for variable in variables:
        name, shape = variable.op.name, variable.shape.as_list()
        if name == "global_step":
            value = np.array(250228)
        elif "Momentum" in name or name.endswith("memory"):
            value = np.zeros(shape)
        elif name.endswith("kernel"):
            fan_in = int(np.prod(shape[:-1]))
            value = rng.integers(-8, 8, shape) / 8 * np.sqrt(3 / fan_in)
        elif name.endswith(("gamma", "moving_variance")):
            value = 1 + rng.integers(-3, 4, shape) / 8
        else:  # beta, moving_mean, bias
            value = rng.integers(-4, 5, shape) / 16
        values[name] = value.astype(variable.dtype.as_numpy_dtype)
    return values


def write(name, *, depth, divisor, sk=0.0, small=False, head=True, layer=0, size=32, meta=False):
    """One archive; ``layer``: the layer of the head on which the classifier stands."""
    import model_util
    import resnet

    tf.reset_default_graph()
    flags.FLAGS.sk_ratio = sk
    flags.FLAGS.ft_proj_selector = layer
    blocks = {18: resnet.residual_block, 50: resnet.bottleneck_block}[depth]
    counts = {18: [2, 2, 2, 2], 50: [3, 4, 6, 3]}[depth]
    images = tf.placeholder(tf.float32, [None, size, size, 3])
    with tf.variable_scope("base_model"):
        network = resnet.resnet_v1_generator(blocks, counts, Width(divisor), cifar_stem=small)
        h = network(images, is_training=False)
    outputs, hiddens = {"h": h}, h
    if head:
        hiddens = model_util.projection_head(h, is_training=False)
        for selector in (1, 2, 3):
            flags.FLAGS.ft_proj_selector = selector
            outputs[f"layer{selector}"] = model_util.projection_head(h, is_training=False)
    outputs["logits"] = model_util.supervised_head(hiddens, CLASSES, is_training=False)
    own = tf.global_variables()
    if head:  # what a pretraining of SimCLRv2 leaves beside: a running mean, slots, the memory
        for variable in own[:6]:
            tf.get_variable(f"ema_model/{variable.op.name}", variable.shape)
            tf.get_variable(f"{variable.op.name}/Momentum", variable.shape)
        tf.get_variable("memory", [OUTPUT, 4])
    tf.train.get_or_create_global_step()
    values = values_of(tf.global_variables(), seed=depth + layer)
    pixels = np.random.default_rng(1).integers(0, 256, (2, size, size, 3)).astype(np.uint8)
    with tf.Session() as session, tempfile.TemporaryDirectory() as folder:
        for variable in tf.global_variables():
            variable.load(values[variable.op.name], session)
        computed = session.run(outputs, {images: pixels / 255.0})
        prefix = f"{folder}/model.ckpt-250228"
        tf.train.Saver().save(session, prefix, write_meta_graph=meta)
        np.savez_compressed(f"{folder}/expected.npz", images=pixels, **computed)
        with zipfile.ZipFile(
            FOLDER / f"simclr-{name}.zip", "w", zipfile.ZIP_DEFLATED, True, 9
        ) as z:
            for path in sorted(Path(folder).iterdir()):
                z.write(path, path.name)
    print(
        name,
        (FOLDER / f"simclr-{name}.zip").stat().st_size,
        {k: v.std() for k, v in computed.items()},
    )


def main(clone):
    sys.path.insert(0, clone)
    tf.disable_v2_behavior()
    define_flags()
    write("v1", depth=50, divisor=32, head=False)
    write("v2-sk", depth=50, divisor=32, sk=0.0625)
    write("v2-layer1", depth=18, divisor=32, layer=1, size=33, meta=True)
    write("small", depth=18, divisor=32, small=True, head=False)


if __name__ == "__main__":
    main(sys.argv[1])
