"""The rows against the paper's text, as printed there."""

import fractions

import pytest

from stat_tf import errors
from stat_tf.reproduction import tables

TABLE_1 = """
1/7 - 4/7 -2/7	1/4-1/4-1/4-1/4	1/2-1/2	45.70%
4/7 - 1/7 -2/7	1/15-2/15-4/15-8/15	1/3-2/3	44.96%
1/3 - 1/3 -1/3	1/4-1/4-1/4-1/4	1/2-1/2	46.60%
1/3 - 1/3 -1/3	1/15-2/15-4/15-8/15	1/3-2/3	46.15%
1/3 - 1/3 -1/3	0-0-0-1	0-1	45.78%
"""
TABLE_2 = """
(6 × 8)	32.24	53.76	36.43	56.43
(12 × 16)	42.79	67.64	46.66	67.75
(18 × 24)	51.28	73.12	53.07	75.69
(24 × 32)	54.53	79.06	55.65	79.54
"""
TABLE_3 = """
Teacher	78.82%	90.56%
Student	42.79%	48.95%
SAT	45.76%	52.03%
TAT	44.97%	50.59%
SAT+TAT	46.66%	52.34%
SAT+TAT+rc	46.85%	53.21%
SAT+TAT+rc+ut	48.03%	54.92%
"""


def lines(text):
    return [line.split("\t") for line in text.strip().splitlines()]


def test_table_1_is_the_papers():
    rows = [row for row in tables.load("1").rows if row.name.startswith("fixed")]
    for row, (overall, sat, tat, prec) in zip(rows, lines(TABLE_1), strict=True):
        for flag, printed in (("overall_weights", overall), ("sat_weights", sat), ("tat_weights", tat)):
            assert row.flags[flag] == printed.replace(" ", "").replace("-", ",")
        assert row.paper == (float(prec[:-1]),)
    rolling = tables.load("1").row("rolling")
    assert rolling.paper == (46.90,) and rolling.flags["weights"] == "rolling"


def test_table_2_is_the_papers():
    table = tables.load("2")
    for size, *numbers in lines(TABLE_2):
        size = size[1:-1].replace(" × ", "x")
        before, after = table.row(f"before_{size}"), table.row(f"after_{size}")
        assert [*before.paper, *after.paper] == [float(number) for number in numbers]
        assert before.lr_size == after.lr_size == table.row(after.compared_with).lr_size == size


def test_table_3_is_the_papers():
    rows = {row.title: row for row in tables.load("3").rows}
    for title, *numbers in lines(TABLE_3):
        assert rows.pop(title).paper == tuple(float(number[:-1]) for number in numbers)
    # What the paper does not have: the baseline that is trained for as long.
    assert [row.name for row in rows.values()] == ["student_longer"]
    assert rows.popitem()[1].paper == ()


def test_weights_of_section_4_6():
    rows = {row.name: row.flags["overall_weights"] for row in tables.load("3").rows if row.stage == "stat"}
    assert rows.pop("sat") == "1/2,1/2,0" and rows.pop("tat") == "1/2,0,1/2"
    assert set(rows.values()) == {"1/3,1/3,1/3"}


@pytest.mark.parametrize("name", tables.TABLES)
def test_rows_hold_together(name):
    table = tables.load(name)
    names = [row.name for row in table.rows]
    assert len(set(names)) == len(names) == len({row.title for row in table.rows})
    for row in table.rows:
        assert len(row.paper) in (0, len(table.paper_columns))
        for other in (row.compared_with, row.paper_compared_with, row.teacher):
            assert not other or names.index(other) < names.index(row.name)
        if row.stage in ("student_longer", "stat"):
            counted_from = table.row(row.paper_compared_with)
            assert counted_from.stage == "student" and counted_from.streams == row.streams
            assert counted_from.lr_size == row.lr_size
        if row.stage == "stat":
            # Same start, LR frames and stream, and whatever the row sets that is not the teacher's.
            baseline = table.row(row.compared_with)
            assert baseline.stage == "student_longer"
            assert (baseline.start, baseline.lr_size, baseline.streams) == (row.start, row.lr_size, row.streams)
            of_transfer = {"weights", "overall_weights", "sat_weights", "tat_weights", "soft_label_weight"}
            assert dict(baseline.flags) == {key: row.flags[key] for key in set(row.flags) - of_transfer}
        for flag in ("overall_weights", "sat_weights", "tat_weights"):
            if flag in row.flags:
                total = sum(map(fractions.Fraction, row.flags[flag].split(",")))
                # In place of SAT and TAT, soft labels have their share.
                assert total == 1 or float(total) + float(row.flags["soft_label_weight"]) == pytest.approx(1, abs=1e-3)


def test_chosen_rows_come_with_what_they_are_compared_with():
    assert tables.load("3").choose(["tat"]) == {"teacher", "student", "student_longer", "tat"}
    assert len(tables.load("3").choose([])) == len(tables.load("3").rows)


def test_unknown_row_is_named_with_the_known_ones():
    with pytest.raises(errors.UserError, match="no row sit; it has teacher, student"):
        tables.load("3").choose(["sit"])
