"""The paper's tables 1 to 4 and figure 6, and what goes beyond them, as data: the rows and the paper's own numbers."""

import dataclasses
from collections.abc import Mapping, Sequence

from stat_tf import errors

TABLES = ("1", "2", "3", "4", "fig6", "beyond")

_EVEN, _EVEN_SAT, _EVEN_TAT = "1/3,1/3,1/3", "1/4,1/4,1/4,1/4", "1/2,1/2"
_GROWING_SAT, _GROWING_TAT = "1/15,2/15,4/15,8/15", "1/3,2/3"


@dataclasses.dataclass(frozen=True)
class Row:
    """One row: a network, how it comes about, and what the paper says of it.

    Attributes:
      name: For --rows and the CSV file.
      title: For the Markdown file.
      stage: What trains it last: "teacher", "student", "student_longer" (the student trained on as long as with STAT,
        and like it, but without a teacher) or "stat".
      flags: Flags of `stat_tf.train` in that stage, by name, in place of the configuration's.
      paper: The paper's numbers in percent, one a column of the table's `paper_columns`; None where it has none.
      compared_with: The row of the same initial weights, augmentation, clips and steps without what this row adds;
        "" for none.
      paper_compared_with: The row from which the paper counts its gain, the Student; "" for none.
      teacher: The row of the teacher, which ends the gap to be closed; "" for none.
      unsupervised: Whether stage "unsupervised" comes before the last one, at the expense of its epochs.
      start: The row whose weights the last stage starts from, "student" or "teacher".
      lr_size: LR frames, HEIGHTxWIDTH; "" for the configuration's.
      streams: "rgb", "flow", or both, which are fused.
    """

    name: str
    title: str
    stage: str
    flags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    paper: tuple[float | None, ...] = ()
    compared_with: str = ""
    paper_compared_with: str = ""
    teacher: str = "teacher"
    unsupervised: bool = False
    start: str = "student"
    lr_size: str = ""
    streams: tuple[str, ...] = ("rgb",)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      name: One of `TABLES`.
      title: What it is about.
      paper_columns: What the paper's columns are of.
      rows: Its rows, each after those that it is compared with.
      config: The directory of flag files that holds the paper's settings of it.
      note: What there is to say of the paper's numbers.
      embeddings: Whether it is about how well the networks' clip representations separate the classes.
    """

    name: str
    title: str
    paper_columns: tuple[str, ...]
    rows: tuple[Row, ...]
    config: str = "configs/ucf101_resnet34"
    note: str = ""
    embeddings: bool = False

    def row(self, name: str) -> Row:
        """The row of this name."""
        return next(row for row in self.rows if row.name == name)

    def choose(self, names: Sequence[str]) -> frozenset[str]:
        """The names of some rows and of those that they are compared with; without `names`, of all.

        Raises:
          UserError: A row is unknown.
        """
        known, wanted = [row.name for row in self.rows], set()
        for name in names:
            if name not in known:
                raise errors.UserError(f"--rows: table {self.name} has no row {name}; it has {', '.join(known)}.")
            row = self.row(name)
            wanted |= {name, row.compared_with, row.paper_compared_with, row.teacher}
        return frozenset(wanted - {""} if names else known)


def fixed(overall: str, sat: str = _EVEN_SAT, tat: str = _EVEN_TAT) -> dict[str, str]:
    """Flags of fixed weights: of CE, SAT and TAT; of the four stages; of the TAM's two layers."""
    return {"weights": "fixed", "overall_weights": overall, "sat_weights": sat, "tat_weights": tat}


_ROLLING = {"weights": "rolling", "overall_weights": _EVEN}


def _transfer(name: str, title: str, flags: Mapping[str, str], paper: tuple[float | None, ...] = (), **more) -> Row:
    """A row of stage stat; unless `more` says otherwise, compared with student_longer, in the paper with student."""
    row = Row(
        name,
        title,
        "stat",
        flags,
        paper,
        compared_with="student_longer",
        paper_compared_with="student",
    )
    return dataclasses.replace(row, **more)


def _references(teacher: tuple[float | None, ...], student: tuple[float | None, ...]) -> tuple[Row, ...]:
    """Teacher, student, and the student trained on; with the paper's numbers of the first two."""
    return (
        Row("teacher", "Teacher", "teacher", paper=teacher, teacher=""),
        Row("student", "Student", "student", paper=student),
        Row("student_longer", "Student, trained on without a teacher", "student_longer", paper_compared_with="student"),
    )


def _table_1() -> Table:
    weights = (
        ("1/7,4/7,2/7", _EVEN_SAT, _EVEN_TAT, 45.70),
        ("4/7,1/7,2/7", _GROWING_SAT, _GROWING_TAT, 44.96),
        (_EVEN, _EVEN_SAT, _EVEN_TAT, 46.60),
        (_EVEN, _GROWING_SAT, _GROWING_TAT, 46.15),
        (_EVEN, "0,0,0,1", "0,1", 45.78),
    )
    rows = [
        _transfer(f"fixed_{number}", f"Fixed: {overall}; SAT {sat}; TAT {tat}", fixed(overall, sat, tat), (paper,))
        for number, (overall, sat, tat, paper) in enumerate(weights, 1)
    ]
    rolling = _transfer("rolling", "Rolling", _ROLLING, (46.90,))
    return Table(
        "1",
        "Weights of cross-entropy, SAT and TAT; of the stages; of the temporal attention module's layers",
        ("ResNet-34 prec@1",),
        (*_references((78.82,), (42.79,)), *rows, rolling),
        note="The paper's Teacher and Student are those of its table 3.",
    )


def _table_2() -> Table:
    rows = [Row("teacher", "Teacher", "teacher", paper=(78.82, None), teacher="")]
    numbers = (
        ("6x8", (32.24, 53.76), (36.43, 56.43)),
        ("12x16", (42.79, 67.64), (46.66, 67.75)),
        ("18x24", (51.28, 73.12), (53.07, 75.69)),
        ("24x32", (54.53, 79.06), (55.65, 79.54)),
    )
    for size, before, after in numbers:
        longer = f"trained_on_{size}"
        rows += [
            Row(f"before_{size}", f"{size} before: Student", "student", paper=before, lr_size=size),
            Row(
                longer,
                f"{size}: Student, trained on without a teacher",
                "student_longer",
                paper_compared_with=f"before_{size}",
                lr_size=size,
            ),
            _transfer(
                f"after_{size}",
                f"{size} after: SAT+TAT",
                fixed(_EVEN),
                after,
                compared_with=longer,
                paper_compared_with=f"before_{size}",
                lr_size=size,
            ),
        ]
    note = "The paper's Teacher is that of its table 3."
    return Table("2", "Resolutions", ("ResNet-34 prec@1", "ResNet-34 prec@5"), tuple(rows), note=note)


def _table_3() -> Table:
    rows = (
        *_references((78.82, 90.56), (42.79, 48.95)),
        _transfer("sat", "SAT", fixed("1/2,1/2,0"), (45.76, 52.03)),
        _transfer("tat", "TAT", fixed("1/2,0,1/2"), (44.97, 50.59)),
        _transfer("sat_tat", "SAT+TAT", fixed(_EVEN), (46.66, 52.34)),
        _transfer("sat_tat_rc", "SAT+TAT+rc", _ROLLING, (46.85, 53.21)),
        _transfer("sat_tat_rc_ut", "SAT+TAT+rc+ut", _ROLLING, (48.03, 54.92), unsupervised=True),
    )
    title = "SAT, TAT, rolling weights (rc) and unsupervised training (ut)"
    return Table("3", title, ("ResNet-34 prec@1", "R(2+1)D-18 prec@1"), rows)


def _table_4() -> Table:
    streams = {"rgb": ("rgb",), "flow": ("flow",), "both": ("rgb", "flow")}
    rows = []
    for name, of in streams.items():
        common = {"streams": of, "teacher": f"teacher_{name}"}
        label = {"rgb": "RGB", "flow": "flow", "both": "RGB + flow"}[name]
        compared = common | {"compared_with": f"student_longer_{name}", "paper_compared_with": f"student_{name}"}
        both = name == "both"
        rows += [
            Row(f"teacher_{name}", f"Teacher, {label}", "teacher", streams=of, teacher=""),
            Row(f"student_{name}", f"Student, {label}", "student", paper=(52.29,) if both else (), **common),
            Row(
                f"student_longer_{name}",
                f"Student, trained on without a teacher, {label}",
                "student_longer",
                paper_compared_with=f"student_{name}",
                **common,
            ),
            _transfer(f"sat_tat_rc_{name}", f"SAT+TAT+rc, {label}", _ROLLING, **compared),
            _transfer(
                f"sat_tat_rc_ut_{name}",
                f"SAT+TAT+rc+ut, {label}",
                _ROLLING,
                (58.12,) if both else (),
                unsupervised=True,
                **compared,
            ),
        ]
    config = "configs/hmdb51_two_stream_r2plus1d_34"
    note = "The paper's Student is its row R2PLUS1D-34; it does not say that this one has two streams."
    return Table("4", "Two streams", ("R(2+1)D-34 on HMDB51 prec@1",), tuple(rows), config, note)


def _figure_6() -> Table:
    rows = (*_references((), ()), _transfer("sat_tat", "SAT+TAT", fixed(_EVEN)))
    return Table("fig6", "Clip representations by t-SNE", (), rows, embeddings=True)


# As much gradient from the soft labels as from the labels, or more: their loss is multiplied by the square of the
# temperature.
_SOFT_LABELS = fixed("1/3,0,0") | {"soft_label_weight": "0.667"}


def _beyond() -> Table:
    rows = (
        *_references((), ()),
        _transfer("sat_tat", "SAT+TAT", fixed(_EVEN)),
        _transfer("soft_labels", "SAT+TAT + soft labels, weight 1", fixed(_EVEN) | {"soft_label_weight": "1.0"}),
        _transfer("soft_labels_alone", "Soft labels without SAT and TAT", _SOFT_LABELS),
        Row(
            "student_from_teacher",
            "Student from the teacher's weights",
            "student_longer",
            paper_compared_with="student",
            start="teacher",
        ),
        _transfer(
            "from_teacher",
            "SAT+TAT from the teacher's weights",
            fixed(_EVEN),
            start="teacher",
            compared_with="student_from_teacher",
        ),
        _transfer(
            "soft_labels_from_teacher",
            "Soft labels without SAT and TAT, from the teacher's weights",
            _SOFT_LABELS,
            start="teacher",
            compared_with="student_from_teacher",
        ),
    )
    return Table("beyond", "Soft labels, and a start from the teacher's weights", (), rows)


def load(name: str) -> Table:
    """The table of one of the names in `TABLES`."""
    makers = {"1": _table_1, "2": _table_2, "3": _table_3, "4": _table_4, "fig6": _figure_6, "beyond": _beyond}
    return makers[name]()
