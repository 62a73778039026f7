"""The verbs on small folders, as a user types them."""

import json
from pathlib import Path

import pytest

from tests.conftest import Run


def test_flags_become_recipe_keys(run: Run, tmp_path: Path) -> None:
    argv = ("data", "make", "shapes", "-o", tmp_path / "d", "--train", 12, "--val", 2, "--test", 2)
    small = ("--set", "unseen=0", "--set", "web=0", "--set", "clips=0", "--set", "dialogs=0")
    code, out, _ = run(*argv, *small, "--set", "train=99", "--json")
    assert code == 0
    assert json.loads(out)["dataset"]["counts"]["train"] == 12


def test_the_seed_decides(run: Run, tmp_path: Path) -> None:
    from blip_edge.artifact import sha256_folder
    from tests.cli.conftest import TINY_WORLD

    def drawn(name: str, seed: int) -> str:
        output = tmp_path / name
        argv = ("data", "make", "shapes", "-o", output, *TINY_WORLD, "--seed", seed)
        assert run(*argv)[0] == 0
        return sha256_folder(output / "images")

    assert drawn("a", 1) == drawn("b", 1) != drawn("c", 2)


def test_check_names_what_is_broken(run: Run, data: Path) -> None:
    assert run("data", "check", data)[0] == 0
    row = json.loads((data / "caption_val.json").read_text())[0]
    (data / "images" / row["image"]).write_bytes(b"no picture")
    code, out, err = run("data", "check", data)
    assert code == 3
    assert "caption_val.json row 0" in out
    assert "cannot be used" in err.splitlines()[-1]


def test_recipes_print_as_toml_that_loads_again(run: Run, tmp_path: Path) -> None:
    code, out, err = run("recipe", "bench")
    assert (code, err) == (0, "")
    mine = tmp_path / "mine.toml"
    mine.write_text(out.replace("runs = 64", "runs = 7"))
    code, out, _ = run("recipe", "bench", mine, "--json")
    assert code == 0
    assert json.loads(out)["runs"] == 7


def test_a_model_says_what_it_is_and_where_it_comes_from(run: Run, model: Path) -> None:
    code, out, err = run("inspect", model, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts["kind"] == "model"
    assert facts["vision"]["hidden_size"] == 16
    assert facts["parameters"] > 1000
    assert [link["verb"] for link in facts["made_by"]] == ["train"]
    code, out, _ = run("inspect", model)
    assert "made by" in out
    assert "on shapes" in out


def test_damaged_weights_are_named(run: Run, model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    code, _, err = run("inspect", model)
    assert code == 3
    assert str(weights) in err


def test_captions_pipe_well(run: Run, model: Path, picture: Path) -> None:
    code, out, err = run("caption", model, picture, picture)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 2
    assert lines[0] == lines[1]
    path, _, said = lines[0].partition("\t")
    assert path == str(picture)
    code, out, err = run("caption", model, picture, "--json")
    assert (code, err) == (0, "")
    (row,) = json.loads(out)
    assert row["caption"] == said
    assert row["score"] < 0


def test_an_unreadable_picture_does_not_stop_the_others(
    run: Run, model: Path, picture: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    code, out, err = run("caption", model, tmp_path / "bad.jpg", picture, tmp_path / "none.jpg")
    assert code == 3
    assert [line.split("\t")[0] for line in out.splitlines()] == [str(picture)]
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "error"]
    assert "bad.jpg" in err
    assert "none.jpg" in err


def test_lengths_that_make_no_sense_are_refused(run: Run, model: Path, picture: Path) -> None:
    code, _, err = run("caption", model, picture, "--min-length", 9, "--max-length", 4)
    assert code == 2
    assert "min_length" in err


def test_quality_has_the_fields_names(run: Run, model: Path, data: Path) -> None:
    code, out, err = run("eval", model, "--data", data, "--limit", 2, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["task"], found["split"], found["items"]) == ("caption", "test", 2)
    assert {"CIDEr", "BLEU-4", "ROUGE-L"} <= found["metrics"].keys()


def test_a_results_file_is_scored_without_a_model(run: Run, data: Path, tmp_path: Path) -> None:
    rows = json.loads((data / "caption_test.json").read_text())
    said = [{"image_id": row["image_id"], "caption": row["caption"][0]} for row in rows]
    results = tmp_path / "results.json"
    results.write_text(json.dumps(said))
    code, out, err = run("eval", "--predictions", results, "--data", data, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["metrics"]["BLEU-4"] == pytest.approx(100, abs=1e-3)
    assert run("eval", "--data", data)[0] == 2


@pytest.mark.parametrize("verb", ["data", "train", "distill", "prune", "quantize", "export"])
def test_every_building_verb_has_defaults_to_print(run: Run, verb: str) -> None:
    code, out, err = run("recipe", verb)
    assert (code, err) == (0, "")
    assert "\n# " in out
