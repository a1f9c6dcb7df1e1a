# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""How a fold and a checkpoint grow with the number of weights."""

import os
import statistics
import tempfile
import time

import numpy as np

from benchmarks import common

# (weights, tensors that hold them): as layers do, and all in one
FOLDS = [(10**5, 1), (10**6, 1), (10**7, 4), (10**8, 25), (10**8, 1)]
CHECKPOINT_SIZES = [10**5, 10**6, 10**7]
SAVES = 5  # at most


def fold_work(cases, rounds):
    """Warm seconds of a fold, a numpy pass and a copy, interleaved, for each case."""
    import tensorflow as tf

    from swa.averaging import Average

    measured = []
    for size, tensors in cases:
        generator = np.random.RandomState(0)
        part = (size // tensors,)
        values = [
            generator.standard_normal(part).astype(np.float32) for _ in range(tensors)
        ]
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            weights = [
                tf.compat.v1.Variable(np.zeros_like(value), use_resource=True)
                for value in values
            ]
            for weight, value in zip(weights, values):
                weight.load(value, session)
            average = Average()
            means = [np.zeros_like(value) for value in values]
            copies_of = [np.zeros_like(value) for value in values]
            folds, passes, copies = [], [], []
            for n in range(1, rounds + 3):
                start = time.perf_counter()
                is_folded = average.add(session.run(weights))
                folds.append(time.perf_counter() - start)
                start = time.perf_counter()
                for a, w in zip(means, values):
                    a += (w - a) / n
                passes.append(time.perf_counter() - start)
                start = time.perf_counter()
                for copy, w in zip(copies_of, values):
                    np.copyto(copy, w)
                copies.append(time.perf_counter() - start)
                if not is_folded:
                    raise RuntimeError("the fold refused finite weights.")
            np.testing.assert_allclose(average.mean[-1][:9], means[-1][:9], rtol=1e-5)
        measured.append(
            {
                "weights": size,
                "tensors": tensors,
                # the first two of each make memory and kernels ready
                "fold_seconds": folds[2:],
                "numpy_seconds": passes[2:],
                "copy_seconds": copies[2:],
            }
        )
    return measured


def checkpoint_work(sizes, rounds):
    """Warm seconds of writing and of reading a checkpoint, and its bytes, by size."""
    from swa.training import checkpoint

    measured = []
    for size in sizes:
        values = np.random.RandomState(0).standard_normal(size).astype(np.float32)
        state = {"n_averaged": 1, "average": [values]}
        writes, reads = [], []
        with tempfile.TemporaryDirectory() as parts:
            folder = checkpoint.Folder(parts, max_to_keep=2)
            for epoch in range(rounds + 1):
                snapshot = checkpoint.Snapshot(epoch, {"w": values}, {}, state, {}, {})
                start = time.perf_counter()
                folder.save(snapshot)
                writes.append(time.perf_counter() - start)
                start = time.perf_counter()
                found = folder.find(print)
                reads.append(time.perf_counter() - start)
                if found.epoch != epoch:
                    raise RuntimeError("another checkpoint was found.")
            np.testing.assert_array_equal(found.swa["average"][0], values)
            names = [name for name in os.listdir(folder.path) if f"-{epoch}." in name]
            count = sum(os.path.getsize(os.path.join(folder.path, n)) for n in names)
        measured.append(
            {
                "weights": size,
                "bytes": count,
                # each write builds a graph
                "write_seconds": writes[1:],
                "read_seconds": reads[1:],
            }
        )
    return measured


def run(options):
    """Prints the tables of folds and of checkpoints; returns their figures."""
    spec = {"cases": FOLDS, "rounds": options.rounds}
    folds = common.in_process("scaling.fold_work", spec)
    print(f"  scaling: {len(folds)} folds; next the checkpoints", flush=True)
    for one in folds:
        for name in ("fold", "numpy", "copy"):
            one[name] = statistics.median(one[name + "_seconds"])
        # numpy's pass and one copy of the weights
        one["bound"] = one["numpy"] + one["copy"]
        one["ratio"] = one["fold"] / one["numpy"]
    common.print_table(
        (
            "weights",
            "tensors",
            "fold s",
            "numpy s",
            "bound s",
            "fold / numpy",
            "fold / bound",
        ),
        [
            (
                f"{one['weights']:,}",
                f"{one['tensors']}",
                f"{one['fold']:.5f}",
                f"{one['numpy']:.5f}",
                f"{one['bound']:.5f}",
                f"{one['ratio']:.2f}",
                f"{one['fold'] / one['bound']:.2f}",
            )
            for one in folds
        ],
    )
    spec = {"sizes": CHECKPOINT_SIZES, "rounds": min(SAVES, options.rounds)}
    checkpoints = common.in_process("scaling.checkpoint_work", spec)
    for one in checkpoints:
        one["write"] = statistics.median(one["write_seconds"])
        one["read"] = statistics.median(one["read_seconds"])
    common.print_table(
        ("weights", "checkpoint MB", "write s", "read s"),
        [
            (
                f"{one['weights']:,}",
                f"{one['bytes'] / 1e6:.2f}",
                f"{one['write']:.4f}",
                f"{one['read']:.4f}",
            )
            for one in checkpoints
        ],
    )
    return {"rounds": options.rounds, "folds": folds, "checkpoints": checkpoints}
