# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The interface of several ranks, threads in place of processes; and who they are."""

import json
import os
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from launcher import hccn

from swa.training import dataset, machine, rank_table, ranks, ranks_hccl, ranks_horovod
from swa.training.errors import UserError
from swa.training.flags import Config
from swa.training.ranks_hccl import sum_of_wide
from swa.training.settings import checked
from swa.training.world import World


class ThreadRanks(ranks.Ranks):
    """One of several ranks that are threads; adds in float32 as a network would."""

    def __init__(self, rank, size, barrier, brought):
        super().__init__(World("threads", rank, size))
        self._barrier, self._brought = barrier, brought

    def sum_vector(self, vector):
        self._brought[self.rank] = vector
        self._barrier.wait()
        total = np.zeros_like(vector)
        for rank in range(self.size):
            total = total + self._brought[rank]
        self._barrier.wait()
        return total


def together(size, function):
    """Calls function(ranks) on `size` ranks at once; a list of results or errors."""
    barrier, brought = threading.Barrier(size, timeout=20), {}
    results = [None] * size

    def run(rank):
        try:
            results[rank] = function(ThreadRanks(rank, size, barrier, brought))
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def common(errors):
    """The one message that all ranks must have got."""
    (message,) = {str(error) for error in errors}
    return message


# What is told to the other ranks


def test_one_process_is_every_rank():
    alone = ranks.Ranks()
    optimizer = object()
    array = np.arange(3)
    (total,) = alone.sum([array])
    assert (alone.rank, alone.size) == (0, 1)
    assert alone.wrap_optimizer(optimizer) is optimizer
    assert alone.is_writer
    np.testing.assert_array_equal(total, array)
    assert total is not array


def test_sum_keeps_order_shapes_and_dtypes():
    def arrays(rank):
        return [
            np.full((2, 3), rank + 0.5, np.float32),
            np.array([rank, 2**40], np.int64),
            np.zeros((0, 4), np.float32),
            np.float32(rank),
            np.array([[rank]], np.float64),
        ]

    results = together(3, lambda r: r.sum(arrays(r.rank)))
    expected = [np.sum(one, axis=0) for one in zip(*map(arrays, range(3)))]
    for sums in results:
        assert len(sums) == len(expected)
        for found, right, sent in zip(sums, expected, arrays(0)):
            assert (found.shape, found.dtype) == (np.shape(sent), sent.dtype)
            np.testing.assert_array_equal(found, right)


def test_sum_makes_one_call_for_each_dtype():
    calls = []

    class Counting(ranks.Ranks):
        def sum_vector(self, vector):
            calls.append((vector.dtype.name, len(vector)))
            return vector

    arrays = [np.zeros(2, np.float32), np.zeros(3, np.int64), np.zeros(4, np.float32)]
    Counting(World("", 0, 2)).sum(arrays)
    assert sorted(calls) == [("float32", 6), ("int64", 3)]


@given(st.lists(st.integers(-(2**55), 2**55), min_size=1, max_size=8))
def test_int64_survives_a_sum_of_int32(values):
    """HCCL sums int64 on its newer releases only."""
    sent, size = [], len(values)
    for rank, value in enumerate(values):  # what each rank hands over
        own = np.array([value])
        sum_of_wide(own, rank, size, lambda bits: sent.append(bits) or bits)
    assert {bits.dtype.name for bits in sent} == {"int32"}
    total = np.sum(sent, axis=0, dtype=np.int32)
    (found,) = sum_of_wide(np.array(values[:1]), 0, size, lambda bits: total)
    assert found == sum(values)


def test_broadcast_gives_rank_0s_arrays_exactly():
    def send(r):
        arrays = [np.array([0.1, -1e30, np.inf]) * (r.rank + 1), np.array([r.rank + 7])]
        return r.broadcast([arrays[0].astype(np.float32), arrays[1]])

    for floats, whole in together(3, send):
        right = np.array([0.1, -1e30, np.inf], np.float32)
        np.testing.assert_array_equal(floats, right)
        np.testing.assert_array_equal(whole, [7])


def test_gather_gives_every_ranks_array():
    for found in together(3, lambda r: r.gather(np.array([r.rank, 10]))):
        np.testing.assert_array_equal(found, [[0, 10], [1, 10], [2, 10]])


def test_mean_is_that_of_all_ranks():
    losses = [1.0, 2.0, 6.0]
    assert together(3, lambda r: r.mean([losses[r.rank], 2.0])) == [[3.0, 2.0]] * 3


def test_mean_of_one_process_is_its_own():
    assert ranks.Ranks().mean([np.float32(0.1)]) == [float(np.float32(0.1))]


def test_a_nan_of_one_rank_is_everyones():
    results = together(2, lambda r: r.mean([np.nan if r.rank else 1.0]))
    assert all(np.isnan(mean) for (mean,) in results)


def test_equal_step_counts_pass():
    assert together(3, lambda r: r.check_same("steps_per_epoch", 8)) == [None] * 3


def test_unequal_step_counts_are_refused_on_every_rank():
    errors = together(3, lambda r: r.check_same("steps_per_epoch", 8 + (r.rank == 2)))
    assert {type(error) for error in errors} == {UserError}
    assert "got 8, 8, 9 on ranks 0 to 2" in common(errors)


def test_equal_arrays_pass():
    arrays = {"kernel": np.ones((2, 2), np.float32), "bias": np.zeros(2)}
    assert together(2, lambda r: r.check_equal(arrays)) == [None] * 2


def test_what_differs_by_one_bit_is_named_on_every_rank():
    def check(r):
        bias = np.array([1.0, 2.0], np.float32)
        if r.rank == 1:
            bias = np.nextafter(bias, np.float32(3))
        r.check_equal({"kernel": np.ones(3), "bias": bias, "mean": np.ones(2)})

    errors = together(3, check)
    assert {type(error) for error in errors} == {UserError}
    assert common(errors) == (
        "bias must be equal on all ranks, but rank 1 differs from rank 0."
    )


# Which ranks there are


def horovod(**more):
    environ = {"HOROVOD_SIZE": "4", "HOROVOD_RANK": "3"}
    environ.update({"HOROVOD_LOCAL_SIZE": "2"}, **more)
    return {name: value for name, value in environ.items() if value is not None}


def hccl(folder, **more):
    table = {
        "version": "1.0",
        "server_list": [
            {
                "server_id": server,
                "device": [
                    {"device_id": str(d), "device_ip": "10.0.0.1", "rank_id": str(r)}
                    for d, r in rows
                ],
            }
            for server, rows in (("a", [(0, 0), (1, 1)]), ("b", [(4, 2), (5, 3)]))
        ],
    }
    path = folder / "table.json"
    path.write_text(json.dumps(table))
    environ = {"RANK_SIZE": "4", "RANK_ID": "3", "JOB_ID": "10087"}
    environ.update({"RANK_TABLE_FILE": str(path)}, **more)
    return {name: value for name, value in environ.items() if value is not None}


@pytest.mark.parametrize("engine", [ranks_hccl, ranks_horovod])
def test_without_variables_it_is_one_process(engine):
    assert engine.read_world({}) == World()


def test_horovodruns_variables_are_read():
    assert ranks_horovod.read_world(horovod()) == World("horovod", 3, 4, 2)


def test_hccls_variables_and_rank_table_are_read(tmp_path):
    assert ranks_hccl.read_world(hccl(tmp_path)) == World("hccl", 3, 4)


def test_an_npus_variables_mean_nothing_on_a_cpu(tmp_path):
    config = checked(Config(device="cpu", output_dir=str(tmp_path / "out")))
    assert machine.choose(config, hccl(tmp_path)).world == World()


@pytest.mark.parametrize(
    "more, message",
    [
        (
            {"HOROVOD_SIZE": "many"},
            "HOROVOD_SIZE must be .* from 1 to 4096, got 'many'",
        ),
        ({"HOROVOD_RANK": "4"}, "HOROVOD_RANK must be an integer from 0 to 3, got '4'"),
        (
            {"HOROVOD_RANK": None},
            "HOROVOD_RANK must be .* from 0 to 3, got None",
        ),
        ({"HOROVOD_LOCAL_SIZE": "5"}, "HOROVOD_LOCAL_SIZE must be .* from 1 to 4"),
    ],
)
def test_bad_variables_of_horovod_are_refused(more, message):
    with pytest.raises(UserError, match=message):
        ranks_horovod.read_world(horovod(**more))


@pytest.mark.parametrize(
    "more, message",
    [
        ({"RANK_SIZE": "0"}, "RANK_SIZE must be an integer from 1 to 4096, got '0'"),
        ({"RANK_ID": None}, "RANK_ID must be an integer from 0 to 3, got None"),
        ({"RANK_ID": "4"}, "RANK_ID must be an integer from 0 to 3, got '4'"),
        ({"JOB_ID": None}, "JOB_ID must be letters, digits"),
        ({"JOB_ID": "a b"}, "got 'a b'"),
        ({"RANK_TABLE_FILE": None}, "RANK_TABLE_FILE must name a rank table for 4"),
        ({"RANK_SIZE": "8"}, "must hold RANK_SIZE = 8 devices, got 4"),
        ({"RANK_TABLE_FILE": "none.json"}, "none.json': No such file"),
    ],
)
def test_bad_variables_of_hccl_are_refused(tmp_path, more, message):
    with pytest.raises(UserError, match=message):
        ranks_hccl.read_world(hccl(tmp_path, **more))


def test_only_ranks_that_have_not_started_are_named(monkeypatch):
    started = {"0", "3"}

    def read(address, port, scope, rank):
        if rank not in started:
            raise RuntimeError("not there")

    def put(address, port, scope, rank, value):
        started.add(rank)

    client = types.ModuleType("http_client")
    client.read_data_from_kvstore, client.put_data_into_kvstore = read, put
    package = types.ModuleType("horovod.runner.http")
    package.http_client = client
    for name in ("horovod", "horovod.runner"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, package.__name__, package)
    environ = {"HOROVOD_GLOO_RENDEZVOUS_ADDR": "a", "HOROVOD_GLOO_RENDEZVOUS_PORT": "1"}
    environ["HOROVOD_GLOO_TIMEOUT_SECONDS"] = "0"
    with pytest.raises(UserError, match="^rank 2, 4 of 5 did not start within 0 s"):
        ranks_horovod.await_all(World("horovod", 1, 5, 5), environ)
    environ["HOROVOD_GLOO_TIMEOUT_SECONDS"] = "x"
    message = (
        "HOROVOD_GLOO_TIMEOUT_SECONDS must be an integer from 0 to 1000000, got 'x'"
    )
    with pytest.raises(UserError, match=message):
        ranks_horovod.await_all(World("horovod", 1, 5, 5), environ)


def test_reading_the_environment_imports_no_framework():
    code = "import sys; from swa.training import machine, run; print(*sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        check=True,
    )
    assert not {b"tensorflow", b"horovod", b"npu_bridge"} & set(told.stdout.split())


# The rank table


def test_a_written_table_is_read_back(tmp_path):
    (tmp_path / "hccn.conf").write_text(
        "address_0=192.168.100.101\nnetmask_0=255.255.255.0\naddress_1=192.168.101.101\n"
    )
    found = hccn.addresses(str(tmp_path / "hccn.conf"))
    assert found == {0: "192.168.100.101", 1: "192.168.101.101"}
    text = hccn.rank_table("here", found)
    (tmp_path / "table.json").write_text(text)
    assert rank_table.read(str(tmp_path / "table.json")) == [
        rank_table.Device(0, "here", 0, "192.168.100.101"),
        rank_table.Device(1, "here", 1, "192.168.101.101"),
    ]
    table = json.loads(text)
    assert (table["version"], table["status"]) == ("1.0", "completed")
    assert table["server_count"] == "1"


def test_without_hccn_conf_it_says_what_to_provide(tmp_path):
    message = "RANK_TABLE_FILE .*, or .*/hccn.conf .* got neither: .*No such file"
    with pytest.raises(UserError, match=message):
        hccn.addresses(str(tmp_path / "hccn.conf"))


DEVICE = {"device_id": "0", "device_ip": "10.0.0.1", "rank_id": "0"}


@pytest.mark.parametrize(
    "table, message",
    [
        ("{", "must be a readable JSON file"),
        ([], "must be a rank table of version 1.0"),
        ({"version": "0.1", "server_list": []}, "must be a rank table of version 1.0"),
        ({"version": "1.0", "server_list": []}, "the rank_id 0 to N - 1"),
        ({"device": [dict(DEVICE, rank_id="1")]}, r"each once, got \[1\]"),
        ({"device": [DEVICE, DEVICE]}, r"each once, got \[0, 0\]"),
        ({"device": [dict(DEVICE, rank_id=0)]}, "all of them strings"),
        ({"device": [{"rank_id": "0"}]}, "device_id, device_ip, rank_id"),
    ],
)
def test_a_bad_table_is_refused_in_one_line(tmp_path, table, message):
    if isinstance(table, dict) and "device" in table:
        servers = [dict(table, server_id="a")]
        table = {"version": "1.0", "server_list": servers}
    text = table if isinstance(table, str) else json.dumps(table)
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        rank_table.read(str(tmp_path / "table.json"))
    assert "\n" not in str(caught.value)


# The rows of each rank


@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 2**32 - 1),
)
def test_ranks_share_the_rows_of_each_batch_of_one_process(
    size, own, whole_batches, last, seed
):
    batch_size = size * own
    rows = batch_size * whole_batches + size * min(last, own - 1)
    if not rows:
        return
    x = np.arange(rows)
    alone = dataset.batches(x, -x, batch_size, seed)
    parted = [
        dataset.batches(x, -x, batch_size, seed, rank=rank, size=size)
        for rank in range(size)
    ]
    for _ in range(2 * -(-rows // batch_size)):
        x_now, y_now = next(alone)
        parts = [next(part) for part in parted]
        assert len({len(x_part) for x_part, _ in parts}) == 1
        np.testing.assert_array_equal(np.concatenate([x for x, _ in parts]), x_now)
        np.testing.assert_array_equal(np.concatenate([y for _, y in parts]), y_now)


def check_batches(name, size, rows):
    chosen = machine.Device(name, world=World("", 0, size))
    machine.check_batches(Config(batch_size=64), chosen, rows)


def test_equal_parts_of_every_batch_are_taken():
    check_batches("cpu", 4, 64 * 3 + 4)
    check_batches("npu", 4, 64 * 3 + 1)
    check_batches("cpu", 1, 64 * 3 + 1)


@pytest.mark.parametrize(
    "size, rows, message",
    [
        (3, 192, "batch_size, the rows of all 3 ranks .* divide by 3, got 64"),
        (4, 193, "the last batch .* divide by the 4 ranks, got 1 rows"),
    ],
)
def test_unequal_parts_are_refused(size, rows, message):
    with pytest.raises(UserError, match=message):
        check_batches("cpu", size, rows)
