# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Ranks on hosts, joined by Horovod over Gloo. The only module that imports horovod."""

import contextlib
import importlib
import os
import time

from swa.training.errors import FAILED, UserError, shortened
from swa.training.ranks import Ranks
from swa.training.world import World, number_in

_TIMEOUT = "HOROVOD_GLOO_TIMEOUT_SECONDS"
_LONGEST_TIMEOUT = 10**6
_SCOPE = "swa_ranks"  # of the launcher's key-value store


def read_world(environ):
    """The ranks that the HOROVOD_ variables describe.

    Raises:
      UserError: a variable that is missing, or out of its range.
    """
    size = number_in(environ, "HOROVOD_SIZE", 1, least=1)
    if size == 1:
        return World()
    rank = number_in(environ, "HOROVOD_RANK", None, least=0, most=size - 1)
    local_size = number_in(environ, "HOROVOD_LOCAL_SIZE", 1, least=1, most=size)
    return World("horovod", rank, size, local_size)


class HorovodRanks(Ranks):
    """Ranks that `horovodrun --gloo` has started.

    Args:
      world: World.
      environ: mapping of environment variables, horovodrun's among them.

    Raises:
      UserError: Horovod is not installed, or cannot be loaded.
      UserError: a rank did not start within HOROVOD_GLOO_TIMEOUT_SECONDS.
    """

    def __init__(self, world, environ=os.environ):
        super().__init__(world)
        try:
            self._hvd = importlib.import_module("horovod.tensorflow")
        except Exception as error:  # its library may not fit this TensorFlow
            cause = shortened(" ".join(str(error).split()), 200)
            raise UserError(
                f"{world.size} ranks on hosts need Horovod, "
                f"got {type(error).__name__}: {cause}. "
                "Start them with test/train_full_8p.sh --device=cpu, which builds it."
            ) from error
        await_all(world, environ)
        self._hvd.init()

    def sum_tensor(self, tensor):
        # the name is what pairs it with those of the other ranks
        name = f"swa_sum_{tensor.dtype.name}_{tensor.shape[0]}"
        return self._hvd.allreduce(tensor, op=self._hvd.Sum, name=name)

    def mean_gradients(self, gradients):
        """Sums all gradients in one call, because Horovod fuses them as they come.

        The place in the sum decides in which order the ranks' terms are added. So runs
        with equal seeds would differ in the last bits from four ranks on.
        """
        import tensorflow as tf

        joined = tf.concat([tf.reshape(part, [-1]) for part in gradients], axis=0)
        total = self._hvd.allreduce(joined, op=self._hvd.Sum, name="swa_gradients")
        sizes = [gradient.shape.num_elements() for gradient in gradients]
        parts = tf.split(total / self.size, sizes)
        return [tf.reshape(part, g.shape) for part, g in zip(parts, gradients)]

    def is_lost(self, error):
        return "Horovod" in str(error)  # whatever its class is

    def close(self):
        self._hvd.shutdown()


def await_all(world, environ):
    """Waits until every rank has started.

    Each rank signs in at horovodrun's key-value store. Gloo would wait too, but would
    not say for which rank.

    Raises:
      UserError: naming those that did not.
    """
    from horovod.runner.http import http_client

    address = environ.get("HOROVOD_GLOO_RENDEZVOUS_ADDR")
    port = environ.get("HOROVOD_GLOO_RENDEZVOUS_PORT")
    if not address or not port:
        raise UserError(
            f"HOROVOD_SIZE must come from horovodrun --gloo, got {world.size} without "
            "HOROVOD_GLOO_RENDEZVOUS_ADDR and _PORT. Use test/train_full_8p.sh."
        )
    # 30 seconds are Gloo's own
    seconds = number_in(environ, _TIMEOUT, 30, least=0, most=_LONGEST_TIMEOUT)
    deadline = time.monotonic() + seconds
    http_client.put_data_into_kvstore(address, port, _SCOPE, str(world.rank), "started")
    missing = set(range(world.size))
    while missing:
        for rank in sorted(missing):
            with contextlib.suppress(RuntimeError):  # not yet
                http_client.read_data_from_kvstore(address, port, _SCOPE, str(rank))
                missing.remove(rank)
        if missing and time.monotonic() > deadline:
            raise UserError(
                f"rank {', '.join(map(str, sorted(missing)))} of {world.size} did not "
                f"start within {seconds} s ({_TIMEOUT}).",
                FAILED,
            )
        time.sleep(0.02 * len(missing))
