"""Repositories cut, joined and shuffled: the same files, and states that are those of the parts."""

import numpy as np
import pytest
from support.made_repository import made_repository
from support.made_source import made_source, words

from ponderttt.data import load_repositories, sources
from ponderttt.errors import InputError
from ponderttt.models.decoder.hidden import hidden_states
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.prepare import repositories
from ponderttt.prepare.repositories import Size, joined, load_kinds, shuffled


@pytest.fixture(scope="module")
def lm():
    return TransformerLM.from_pretrained("tiny")


def contents(repository) -> dict[str, list[int]]:
    """The tokens of each file, where its span says that they are."""
    tokens, mask = repository.document.tokens[0], repository.document.mask[0]
    found = {}
    for path, first, units, count in repository.files:
        part = slice(first, first + units)
        found[path] = tokens[part][mask[part]].tolist()
        assert mask[part].reshape(-1).tolist() == [True] * count + [False] * (
            mask[part].size - count
        )
    return found


def assert_same(one, other):
    """Two documents, to the bit and the type."""
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


def begins(repository) -> list[int]:
    return np.flatnonzero(repository.document.starts[0]).tolist()


def length(repository) -> int:
    return repository.document.tokens.shape[1]


# --- cut and joined


def test_units_take_apart_what_is_joined():
    first, then = made_repository(name="a", spare=2), made_repository((5, 9), name="b", seed=1)
    both, border = joined(first, then), length(first)
    behind, before = both.units(slice(border, None)), both.units(slice(0, border))
    assert_same(behind.document, then.document)
    assert (behind.files, behind.title) == (then.files, then.title)
    assert_same(before.document, first.document)
    assert before.files == ()  # the files of what is joined are those behind
    assert both.title == then.title and contents(both) == contents(then)
    assert begins(both) == [*begins(first), *(border + unit for unit in begins(then))]


@pytest.mark.parametrize("start", [3, 4, 8])
def test_joined_halves_are_the_whole(start):
    whole = made_repository(spare=1)
    first, then = whole.units(slice(0, start)), whole.units(slice(start, None))
    assert_same(joined(first, then).document, whole.document)
    assert contents(first) | contents(then) == contents(whole)
    assert not contents(first).keys() & contents(then).keys()
    assert joined(first, then).files == tuple(f for f in whole.files if f.first_unit >= start)


def test_units_in_the_middle_keep_the_files_that_begin_there():
    whole = made_repository()
    part = whole.units(slice(3, 8))
    assert_same(part.document[:2], (x[:, 3:8] for x in whole.document[:2]))
    assert begins(part) == [span.first_unit for span in part.files] == [0, 1]
    known = contents(whole)
    assert contents(part) == {path: known[path] for path in ("made/1.py", "made/2.py")}


@pytest.mark.parametrize("taken", [slice(1, 4), slice(5, None), slice(3, 3), slice(0, 0)])
def test_units_that_do_not_begin_with_a_file_are_refused(taken):
    with pytest.raises(InputError, match=r"units slice.* of made here: made do not begin with a f"):
        made_repository().units(taken)


@pytest.mark.parametrize("lengths", [(40,), (4, 36), (20, 20), (3, 9, 5, 30), (4,) * 7])
def test_the_middle_is_the_nearest_beginning_of_a_file(lengths):
    repository = made_repository(lengths)
    distance = {unit: abs(unit - length(repository) / 2) for unit in begins(repository)}
    assert distance[repository.middle()] == min(distance.values())
    assert repository.regroup(2).middle() == 2 * repository.middle()


# --- units of another length


@pytest.mark.parametrize("unit", [1, 2, 4])
def test_regrouped_tokens_are_the_same_in_the_same_order(unit):
    whole = made_repository(spare=2)
    made, expected = whole.regroup(unit), whole.document
    assert made.document.tokens.shape == (1, length(whole) * 4 // unit, unit)
    for one, other in zip(made.document[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(one.reshape(1, -1), other.reshape(1, -1), strict=True)
    assert made.document.bos == expected.bos and made.title == whole.title
    np.testing.assert_array_equal(
        made.document.inputs.reshape(-1), whole.document.inputs.reshape(-1)
    )
    assert contents(made) == contents(whole)
    assert begins(made) == [span.first_unit for span in made.files]
    assert [span.units for span in made.files] == [-(-span.tokens // unit) for span in whole.files]


def test_a_unit_that_does_not_divide_is_refused():
    with pytest.raises(InputError, match="a unit of 3 tokens does not divide units of 4 tokens"):
        made_repository().regroup(3)


# --- shuffled


@pytest.mark.parametrize("seed", range(4))
def test_shuffled_files_stand_where_their_order_says(seed):
    whole = made_repository((10, 3, 16, 6, 1, 8), spare=2)
    made, order = shuffled(whole, seed)
    assert sorted(order.tolist()) == list(range(length(whole)))
    for name in ("tokens", "mask", "starts"):
        np.testing.assert_array_equal(
            getattr(made.document, name), getattr(whole.document, name)[:, order], strict=True
        )
    assert sorted(made.document.tokens[made.document.mask]) == sorted(
        whole.document.tokens[whole.document.mask]
    )
    assert contents(made) == contents(whole) and made.title == whole.title
    assert begins(made) == [span.first_unit for span in made.files]
    again, same = shuffled(whole, seed)
    assert again.files == made.files and (order == same).all()


def test_seeds_draw_orders():
    whole = made_repository((10, 3, 16, 6, 1, 8))
    drawn = {tuple(shuffled(whole, seed)[1].tolist()) for seed in range(6)}
    assert len(drawn) > 3


# --- states


@pytest.mark.parametrize(("depth", "window"), [(0, Window(8)), (1, Window(8, overlap=False))])
def test_states_are_those_of_the_files_wherever_they_stand(lm, depth, window):
    """Attention starts anew in each file, so what was computed once serves every order."""
    whole, other = made_repository(spare=1), made_repository((7, 12), name="b", seed=1)
    read = lambda r: hidden_states(  # noqa: E731
        lm, r.document, window=window, suffix_blocks=depth
    )[0]
    known, beside = read(whole), read(other)
    (moved, order), both = shuffled(whole, 0), joined(other, whole)
    assert (order != np.arange(length(whole))).any()
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(read(moved), known[order], **close)
    np.testing.assert_allclose(read(both), np.concatenate([beside, known]), **close)
    np.testing.assert_allclose(read(whole.units(slice(3, None))), known[3:], **close)


# --- loading


@pytest.fixture
def kinds(tmp_path, monkeypatch):
    """Packages of three files, articles, and a folder: the name of each source."""
    monkeypatch.setenv("PONDERTTT_CACHE", str(tmp_path / "cache"))
    packages = {f"pack{p}/{f}.py": words(f"{p} {f}", 150) for p in range(30) for f in range(3)}
    articles = {f"article {i}": words(f"article {i}", 200) for i in range(20)}
    # Articles have the split of their source: these are all of the last one.
    monkeypatch.setitem(sources.SOURCES, "packages", made_source(packages))
    monkeypatch.setitem(sources.SOURCES, "leads", made_source(articles, shares=(0, 0, 100)))
    folder = tmp_path / "mine"
    folder.mkdir()
    for i in range(4):
        (folder / f"{i}.py").write_text(words(f"mine {i}", 160))
    return ("packages", str(folder), "leads")


def test_kinds_are_loaded_in_turn(lm, kinds, monkeypatch):
    size = Size(unit=64, units=6, min_files=2)
    monkeypatch.setattr(repositories, "PROSE_UNITS", 2)
    asked = {"split": "test", "count": 3, "seed": 5}
    loaded, records = load_kinds(lm, kinds, size=size, **asked)
    packages, folder, leads = kinds
    expected = [packages, folder, leads, packages, leads, packages, leads]
    assert [repository.source for repository in loaded] == expected
    assert list(records) == list(kinds) and len({r.title for r in loaded}) == len(loaded)
    for source, prose in zip(kinds, (False, False, True), strict=True):
        alone = load_repositories(
            source, lm.load_tokenizer(), split="test", unit=64, units=2 if prose else 6,
            min_files=1 if prose else 2, max_repositories=3, seed=5,
        )  # fmt: skip
        assert records[source] == alone.record
        mine = [repository for repository in loaded if repository.source == source]
        assert [repository.name for repository in mine] == list(alone.names)
        for i, repository in enumerate(mine):
            assert_same(repository.document, alone.documents.select(slice(i, i + 1)))
            assert repository.files == alone.files[i]
            assert length(repository) == (2 if prose else 6)
            assert len(repository.files) == 1 if prose else len(repository.files) >= 2
            assert repository.title == f"{source}: {repository.name}"


def test_fewer_of_each_kind_are_the_beginning_of_more(lm, kinds, monkeypatch):
    monkeypatch.setattr(repositories, "PROSE_UNITS", 2)
    load = lambda count: load_kinds(  # noqa: E731
        lm, kinds, split="test", size=Size(64, 6), count=count, seed=0
    )[0]
    few, many = ([r.title for r in load(count)] for count in (1, 3))
    assert few == many[:3]
