import pytest

from pointland.auditing.batches import FIRST, LARGEST, BatchSize, is_out_of_memory


def test_a_number_stays_and_a_cpu_keeps_to_the_first() -> None:
    for batch in (BatchSize(7, "cuda:0"), BatchSize("auto", "cpu")):
        size = batch.size
        batch.ran(size, 1.0)
        assert batch.size == size
    assert BatchSize("auto", "cpu").size == FIRST


def test_on_an_accelerator_it_doubles_while_pictures_get_faster() -> None:
    batch = BatchSize("auto", "cuda:0")
    seconds_each = {16: 1.0, 32: 0.6, 64: 0.4, 128: 0.39}
    while batch.grows:
        batch.ran(batch.size, batch.size * seconds_each[batch.size])
    assert batch.size == 64  # 128 was no faster


def test_it_stops_at_the_largest() -> None:
    batch = BatchSize("auto", "cuda:0")
    for _ in range(10):
        batch.ran(batch.size, 1.0)  # ever faster
    assert batch.size == LARGEST


def test_a_batch_that_was_cut_short_says_nothing() -> None:
    batch = BatchSize("auto", "cuda:0")
    batch.ran(3, 0.001)
    assert batch.size == FIRST


def test_out_of_memory_halves_for_good_and_ends_with_advice_at_one() -> None:
    batch = BatchSize(10, "cpu")
    batch.ran_out(10, MemoryError())
    assert batch.size == 5
    batch.ran_out(5, MemoryError())
    batch.ran_out(2, MemoryError())
    assert batch.size == 1
    with pytest.raises(ValueError, match=r"one picture at a time.*--dtype"):
        batch.ran_out(1, MemoryError())


def test_what_is_out_of_memory() -> None:
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not is_out_of_memory(RuntimeError("shapes differ"))
