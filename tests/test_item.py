from hypothesis import given
from hypothesis import strategies as st

from pointland.data import Item, Items
from pointland.data.item import BLOCK, _told_apart

TEXT = st.text(st.characters(exclude_categories=()), max_size=12)  # lone surrogates too
ITEMS = st.builds(Item, TEXT, TEXT, st.none() | TEXT, st.none() | TEXT)


@given(st.lists(ITEMS, unique_by=lambda item: item.key, max_size=30))
def test_what_goes_in_comes_out(items: list[Item]) -> None:
    kept = Items.of(iter(items))
    assert list(kept) == items == [kept[i] for i in range(len(kept))]
    assert list(kept.keys()) == [item.key for item in items]
    assert kept.n_captions == sum(item.caption is not None for item in items)
    assert kept.captions() == sorted({item.caption for item in items if item.caption is not None})


@given(st.lists(ITEMS, unique_by=lambda item: item.key, max_size=12), st.slices(12))
def test_slices_are_those_of_a_list(items: list[Item], cut: slice) -> None:
    kept = Items.of(items)
    assert list(kept[cut]) == items[cut]
    assert [kept[-i - 1] for i in range(len(items))] == items[::-1]


@given(st.lists(st.sampled_from(["a", "a (2)", "b", "\ud800"]), max_size=10))
def test_names_that_come_again_are_told_apart_and_said(names: list[str]) -> None:
    kept = Items.of(Item(name, str(i)) for i, name in enumerate(names))
    assert len(set(kept.keys())) == len(kept) == len(names)
    assert [item.place for item in kept] == [str(i) for i in range(len(names))]
    for i, item in enumerate(kept):
        told = item.fault is not None and repr(names[i]) in item.fault
        assert (item.key != names[i]) == told
    assert sum(item.fault is None for item in kept) >= len(set(names)) - 1  # "a (2)" may be a second "a"


@given(st.lists(ITEMS, unique_by=lambda item: item.key, min_size=2, max_size=6), st.data())
def test_the_digest_tells_listings_apart(items: list[Item], data: st.DataObject) -> None:
    assert Items.of(items).digest() == Items.of(items)[:].digest()
    place = data.draw(st.integers(0, len(items) - 1))
    changed = [
        *items[:place],
        items[place]._replace(caption="another" + (items[place].caption or "")),
        *items[place + 1 :],
    ]
    assert Items.of(changed).digest() != Items.of(items).digest()
    assert Items.of(items[::-1]).digest() != Items.of(items).digest()


def test_many_of_one_name_take_one_step_each() -> None:
    class Counted(str):
        formatted = 0

        def __format__(self, spec: str) -> str:
            Counted.formatted += 1
            return super().__format__(spec)

    names = ["a (2)", "a (7)", *[Counted("a")] * 1000]
    told = [item.key for item in _told_apart(Item(name, "") for name in names)]
    assert told == ["a (2)", "a (7)", "a", *(f"a ({i})" for i in range(3, 1003) if i != 7)]
    assert Counted.formatted < 1010


def test_a_second_one_says_where_it_is() -> None:
    kept = Items.of([Item("a", "one.parquet#0"), Item("a", "two.parquet#7")])
    assert kept[1].fault == "a second item named 'a', at 'two.parquet#7'; keys must be unique"


def test_more_than_one_block() -> None:
    kept = Items.of(Item(f"{i % (BLOCK + 3)}", "") for i in range(BLOCK + 5))
    assert len(kept) == len(list(kept)) == BLOCK + 5
    assert [kept[i].key for i in (BLOCK + 2, BLOCK + 3, BLOCK + 4)] == [f"{BLOCK + 2}", "0 (2)", "1 (2)"]
    assert list(Items.of([])) == []
