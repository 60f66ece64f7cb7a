import os
import subprocess
import sys
from collections import Counter

import pytest

from maskfix.base import InputError
from maskfix.occlude import PAPER_KINDS, draw_kind, generator_for


def test_generator_for__same_triple_same_numbers() -> None:
    first = generator_for("a/b_0001", "probe", 7).random(5)
    assert (generator_for("a/b_0001", "probe", 7).random(5) == first).all()


@pytest.mark.parametrize("other", [("a/b_0002", "probe", 7), ("a/b_0001", "train", 7), ("a/b_0001", "probe", 8)])
def test_generator_for__each_part_counts(other: tuple[str, str, int]) -> None:
    assert generator_for("a/b_0001", "probe", 7).random() != generator_for(*other).random()


def test_generator_for__parts_do_not_run_together() -> None:
    assert generator_for("ab", "c", 1).random() != generator_for("a", "bc", 1).random()


def test_draw_kind__same_in_another_process() -> None:
    # Hash randomisation of str must not reach the draw.
    names = [f"face_{number}" for number in range(20)]
    code = f"from maskfix.occlude.draws import draw_kind;print([draw_kind(n, 'probe', 3) for n in {names!r}])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert answer == repr([draw_kind(name, "probe", 3) for name in names])


def test_draw_kind__uniform() -> None:
    counts = Counter(draw_kind(f"face_{number}", "probe", 0) for number in range(4500))
    assert set(counts) == set(PAPER_KINDS)
    # 500 expected, standard deviation 21: five of them either way.
    assert all(abs(count - 500) < 105 for count in counts.values())


def test_draw_kind__own_list() -> None:
    assert draw_kind("x", "y", 0, kinds=["N95"]) == "N95"
    with pytest.raises(InputError, match="at least one"):
        draw_kind("x", "y", 0, kinds=[])


def test_generator_for__names_that_are_no_utf8() -> None:
    """File names as Python reads them on Linux."""
    first, other = (generator_for(os.fsdecode(name), "probe", 0).random() for name in (b"caf\xe9", b"caf\xe8"))
    assert first != other
