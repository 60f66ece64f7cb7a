import pytest

from maskfix.base import InputError
from maskfix.occlude import PAPER_KINDS, MaskKind, parse_kind


def test_paper_kinds__are_the_nine() -> None:
    assert len(set(PAPER_KINDS)) == 9
    assert [parse_kind(kind).template for kind in PAPER_KINDS] == [
        "surgical",
        "surgical_blue",
        "surgical_green",
        "N95",
        "KN95",
        *["cloth"] * 4,
    ]


def test_parse_kind__any_hex() -> None:
    kind = parse_kind("cloth#0A1b2C")
    assert kind == MaskKind("cloth", "#0a1b2c")
    assert kind.rgb == (10, 27, 44)
    assert parse_kind("N95").rgb is None


@pytest.mark.parametrize(
    "name", ["", "scarf", "cloth#12345", "cloth#1234567", "cloth#ggg000", "N95#333333", "n95", "cloth#333333\n"]
)
def test_parse_kind__unknown(name: str) -> None:
    with pytest.raises(InputError, match=r"known: surgical, .*, cloth, cloth#rrggbb$"):
        parse_kind(name)


def test_parse_kind__templates_of_a_folder() -> None:
    assert parse_kind("scarf", ("scarf",)) == MaskKind("scarf", None)
    assert parse_kind("cloth#010203", ("scarf", "cloth")).rgb == (1, 2, 3)
    for name in ("N95", "cloth", "cloth#010203"):
        with pytest.raises(InputError, match=r"known: scarf$"):
            parse_kind(name, ("scarf",))
