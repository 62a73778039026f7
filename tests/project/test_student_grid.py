"""The grid of students: its page says what its record says, and its commands can be given."""

import json
from pathlib import Path

from tests.project.test_readme_numbers import program_of


def test_the_page_says_what_the_record_says() -> None:
    program = program_of("student_grid")
    record = json.loads(program.RECORD.read_text(encoding="utf-8"))
    page = program.PAGE.read_text(encoding="utf-8")
    assert program.with_table(page, record) == page
    known = {cell.name for cell in program.cells()}
    assert set(record["cells"]) <= known


def test_what_was_not_run_is_told_so() -> None:
    tables, program = program_of("student_tables"), program_of("student_grid")
    told = tables.table(
        {"metrics": program.METRICS, "cells": {}, "latency_ms": {}, "ranked_ms": {}}
    )
    assert told.count("not run") >= sum(len(row.tasks) for row in program.ROWS)


def test_a_missed_goal_is_told_so() -> None:
    tables, program = program_of("student_tables"), program_of("student_grid")
    cell = {"interval": [0.5, 0.9], "items": 500, "parameters": 1000, "minutes": 1.0}
    cells = {"caption-teacher-0": {**cell, "metric": 0.8}, "caption-25-0": {**cell, "metric": 0.7}}
    told = tables.goals(
        {"metrics": program.METRICS, "cells": cells, "latency_ms": {}, "ranked_ms": {}}
    )
    assert "caption 87.5% (missed)" in told[1]


def test_cells_that_took_too_long_are_counted() -> None:
    tables, program = program_of("student_tables"), program_of("student_grid")
    cell = {"metric": 0.8, "interval": [0.5, 0.9], "items": 500, "parameters": 1000}
    took = {"caption-teacher-0": 25.0, "caption-25-0": 4.5, "caption-25-1": 6.0}
    cells = {name: {**cell, "minutes": minutes} for name, minutes in took.items()}
    told = tables.table(
        {"metrics": program.METRICS, "cells": cells, "latency_ms": {}, "ranked_ms": {}}
    )
    assert "at most 5: 4.5 to 6, median 5.25; 1 of 2 took longer (missed)" in told


def test_a_row_of_another_seed_is_held_to_that_seeds_teacher() -> None:
    tables, program = program_of("student_tables"), program_of("student_grid")
    cell = {"interval": [0.5, 0.9], "items": 500, "parameters": 1000, "minutes": 1.0}
    cells = {
        "caption-teacher-0": {**cell, "metric": 0.9},
        "caption-teacher-1": {**cell, "metric": 0.8},
        "caption-half-1": {**cell, "metric": 0.7},
    }
    told = tables.table(
        {"metrics": program.METRICS, "cells": cells, "latency_ms": {}, "ranked_ms": {}}
    )
    assert "70.0 (50.0 to 90.0); seed 1, whose teacher has 80.0" in told
    assert "90.0 (50.0 to 90.0); 2 seeds 80.0 to 90.0" in told


def test_a_student_is_held_to_the_teachers_of_its_seeds() -> None:
    tables, program = program_of("student_tables"), program_of("student_grid")
    cell = {"interval": [0.5, 0.9], "items": 500, "parameters": 1000, "minutes": 1.0}
    found = {"teacher-0": 0.8, "teacher-1": 0.4, "44-0": 0.8, "44-1": 0.2, "25-0": 0.8}
    cells = {f"caption-{name}": {**cell, "metric": metric} for name, metric in found.items()}
    told = tables.goals(
        {"metrics": program.METRICS, "cells": cells, "latency_ms": {}, "ranked_ms": {}}
    )
    assert "caption 83.3% (missed)" in told[0], "the mean of two, against that of two"
    assert "caption 100.0%" in told[1], "one against its own"


def test_every_cell_is_a_command_that_the_program_takes() -> None:
    from blip_edge.distill import DistillRecipe, PruneRecipe
    from blip_edge.distill.storing import storable
    from blip_edge.recipe import find, load

    cells = program_of("grid_cells")
    for cell in cells.cells():
        words = cells.make_command(cell)
        if words is None:
            assert cell.name == f"{cell.task}-teacher-0"
            continue
        if words[0] == "train":
            find("train", words[words.index("--recipe") + 1])
            continue
        cls = DistillRecipe if words[0] == "distill" else PruneRecipe
        recipe = words[words.index("--recipe") + 1]
        given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        how = load(cls, "distill", recipe, given)
        if "--store" in words:
            storable(how)  # or it says which losses no store holds
        if "--student" in words:
            find("distill/students", words[words.index("--student") + 1])
    assert len({cell.name for cell in cells.cells()}) == len(cells.cells())


def test_what_two_rows_make_by_the_same_words_is_made_once() -> None:
    cells = program_of("grid_cells")
    twins = {one.name: cells.made_as(one).name for one in cells.cells()}
    assert twins["vqa-25-views-0"] == twins["vqa-25-0"] == "vqa-25-0"
    assert twins["caption-25-views-0"] == "caption-25-views-0"  # the other row has a store
    for one in cells.cells():
        made, asked = (cells.make_command(each) for each in (cells.made_as(one), one))
        assert made == asked or made[:-1] == asked[:-1]


def test_a_ranking_that_is_better_and_slower_has_missed() -> None:
    tables, program = program_of("student_tables"), program_of("student_grid")
    cell = {"interval": [0.5, 0.9], "items": 500, "parameters": 1000, "minutes": 1.0}
    cells = {
        "caption-latency-0": {**cell, "metric": 0.8},
        "caption-latency-even-0": {**cell, "metric": 0.7},
    }
    untimed = {"metrics": program.METRICS, "cells": cells, "latency_ms": {}, "ranked_ms": {}}
    assert any("70.0, not timed" in line for line in tables.goals(untimed))
    for slower, missed in ((7.0, False), (7.1, False), (7.5, True)):
        times = {"latency": slower, "latency-even": 7.0}
        record = {
            "metrics": program.METRICS,
            "cells": cells,
            "latency_ms": {"caption": times},
            "ranked_ms": {},
        }
        line = next(line for line in tables.goals(record) if "no slower" in line)
        assert ("(missed)" in line) == missed, line
        by_themselves = {**record, "ranked_ms": {"caption": {**times, "latency": 6.5}}}
        line = next(line for line in tables.goals(by_themselves) if "no slower" in line)
        assert "80.0 in 6.50 ms" in line and "(missed)" not in line
        one_of_two = {**record, "ranked_ms": {"caption": {"latency-even": 1.0}}}
        assert tables.goals(one_of_two) == tables.goals(record)


def test_a_seeds_students_are_made_from_its_own_teacher() -> None:
    cells = program_of("grid_cells")
    for cell in cells.cells():
        words = cells.make_command(cell)
        if cell.row.verb is not None:
            own = cell.task if cell.seed == 0 else f"students/{cell.task}-teacher-{cell.seed}"
            assert words[1] == own
            assert "--store" not in words or f"stores/{cell.task}-{cell.seed}" in words


def test_what_is_recorded_of_other_teachers_stays(tmp_path: Path) -> None:
    program = program_of("student_grid")
    kept = json.loads(program.RECORD.read_text(encoding="utf-8"))
    assert program.record(tmp_path, kept) == kept
    (tmp_path / "caption").mkdir()
    again = program.record(tmp_path, kept)
    gone = {name for name in kept["cells"] if name.startswith("caption-") and name.endswith("-0")}
    assert gone and again["cells"].keys() == kept["cells"].keys() - gone
    assert again["latency_ms"] == {**kept["latency_ms"], "caption": {}}


def test_each_row_is_timed_by_a_model_of_its_size(tmp_path: Path) -> None:
    program = program_of("student_grid")
    (tmp_path / "students").mkdir()
    for name in ("teacher-1", "25-1", "25-2", "latency-2", "10-longer-1"):
        (tmp_path / "students" / f"caption-{name}.json").write_text("{}")
    timed = program.timed(tmp_path, "caption")
    same = dict.fromkeys(("25", "25-alone", "25-logits", "25-hidden", "25-views"), "caption-25-1")
    same |= {"25-attention": "caption-25-1", "latency": "caption-latency-2"}
    same |= {name: "caption-10-longer-1" for name in ("10", "10-longer")}
    expected = {row: f"students/{model}" for row, model in same.items()}
    assert timed == {"teacher": "students/caption-teacher-1", **expected}


def test_what_is_asked_is_run_before_further_seeds() -> None:
    cells = program_of("grid_cells")
    order = [cell.name for cell in cells.cells()]
    asked = ("caption-25-2", "retrieval-half-1", "vqa-10-0", "nlvr2-latency-even-0")
    further = ("vqa-teacher-1", "caption-half-2", "nlvr2-25-hidden-1")
    assert max(map(order.index, asked)) < min(map(order.index, further))
    assert order.index("nlvr2-teacher-1") < order.index("nlvr2-25-hidden-1")
