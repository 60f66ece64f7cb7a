"""UTKFace's names, and how often their groups are drawn."""

from __future__ import annotations

import pytest

from maskfix.base import InputError
from maskfix.data import GROUPS, UNLABELLED, emphasise, group_rows


def test_group_rows__utkface_names() -> None:
    names = [
        "0_0_0_2017.jpg.chip.jpg",
        "12_1_1_2017.jpg",
        "13_0_2_2017.jpg",
        "19_0_3_2017.jpg",
        "part1/20_1_4_2017.jpg",
        "34_0_0_2017.jpg",
        "35_0_0_2017.jpg",
        "49_0_0_2017.jpg",
        "50_0_0_2017.jpg",
        "64_0_0_2017.jpg",
        "65_0_0_2017.jpg",
        "116_0_0_2017.jpg",
        "39_1_20170116174525125.jpg.chip.jpg",  # as in UTKFace: no ethnicity
        "53__0_20170116184028385.jpg",  # as in UTKFace: no sex
        "300_0_0_2017.jpg",
        "20_2_0_2017.jpg",
        "20_0_5_2017.jpg",
        "1_0_0_2017/face.jpg",
        "face.jpg",
    ]
    found = {
        attribute: {group: rows.tolist() for group, rows in groups.items()}
        for attribute, groups in group_rows(names).items()
    }
    assert found["age"] == {
        "0-12": [0, 1],
        "13-19": [2, 3],
        "20-34": [4, 5],
        "35-49": [6, 7],
        "50-64": [8, 9],
        "65+": [10, 11],
        UNLABELLED: [12, 13, 14, 15, 16, 17, 18],
    }
    assert found["sex"]["female"] == [1, 4]
    assert found["ethnicity"]["Black"] == [1]
    assert found["ethnicity"]["Others"] == [4]
    for attribute, groups in found.items():
        assert list(groups) == [*GROUPS[attribute], UNLABELLED]
        assert sorted(row for rows in groups.values() for row in rows) == list(range(len(names)))


def test_group_rows__nothing() -> None:
    assert all(len(rows) == 0 for groups in group_rows([]).values() for rows in groups.values())


class TestEmphasise:
    NAMES = ("30_0_1_a.jpg", "70_0_0_a.jpg", "70_1_1_a.jpg", "30_1_0_a.jpg", "face.jpg")

    def test_factors_multiply_within_a_face(self) -> None:
        factors = emphasise(self.NAMES, {"male": 2, "Black": 1.5, "65+": 0.5})
        assert factors.tolist() == [3.0, 1.0, 0.75, 1.0, 1.0]

    def test_nothing_emphasised(self) -> None:
        assert emphasise(self.NAMES, {}).tolist() == [1.0] * 5
        assert emphasise([], {}).shape == (0,)

    @pytest.mark.parametrize(
        ("emphasis", "message"),
        [
            ({"men": 2}, "emphasis: 'men' is unknown; known: male, female, 0-12"),
            ({UNLABELLED: 2}, "'unlabelled' is unknown"),
            ({"male": 0}, "emphasis of male: expected a number in"),
            ({"male": float("nan")}, "emphasis of male: expected a number in"),
            ({"Asian": 2}, "none of 5 pictures is labelled 'Asian'"),
        ],
    )
    def test_refused(self, emphasis: dict[str, float], message: str) -> None:
        with pytest.raises(InputError, match=message):
            emphasise(self.NAMES, emphasis)


def test_group_rows__ages_that_are_none() -> None:
    """The last band ends at 120 years; three digits alone make no age."""
    rows = group_rows(["120_0_0_2017.jpg", "121_0_0_2017.jpg", "199_0_0_2017.jpg"])
    assert rows["age"]["65+"].tolist() == [0]
    assert rows["sex"]["male"].tolist() == [0]
    assert rows["age"][UNLABELLED].tolist() == [1, 2]
