"""A table of variants stands beside the published one, row by row."""

from __future__ import annotations

import json
from pathlib import Path

from evaluation import ablation
from evaluation.ablation import ablation_table
from utils.files import read_json


def test_ablation_stands_beside_the_published_values(tmp_path: Path) -> None:
    """Means over runs, differences to the first variant, and published rows for what was not run."""
    def run(name: str, value: float | None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "params.json").write_text('{"net": {"name": "autohr"}}')
        rows = [{"method": "constant", "rmse_bpm": 99.0}, {"method": "autohr", "rmse_bpm": value}]
        test = {"origins": ["synthetic"], "n_missing": 2, "n_recordings": 5} if name == "c" else {}
        (folder / "metrics.json").write_text(json.dumps({"rows": rows, "test": test}))
        return folder

    table = ablation_table("autohr_ablation", {
        "search_shared_tdc": [run("a", 8.0), run("b", 9.0)], "da1": [run("c", 10.0)], "da2": [run("d", None)],
    })
    assert table is not None
    rows = {(row[0], row[1]): row[2:] for row in table.rows}
    assert rows["augmentation", "none"] == ["8.59", "+0.00", "8.50 ± 0.71", "+0.00", "2 of 2",
                                            "search_shared_tdc"]
    assert rows["augmentation", "erasing"] == ["9.08", "+0.49", "10.00", "+1.50", "1 of 1", "da1"]
    assert rows["augmentation", "tempo"][2:5] == ["–", "–", "0 of 1"]
    assert rows["theta, no search", "0.8"][:4] == ["12.97", "+3.07", "–", "–"]
    assert table.notes[-1] == (
        "c: synthetic recordings, not the dataset's; 2 recordings are missing beside 5 scored")
    assert len(table.rows) == 23 and ablation_table("pure", {}) is None


def test_every_variant_has_a_recipe() -> None:
    """Each published row names a recipe of its table, and each recipe stands in a row."""
    for name, table in read_json(ablation.FACTS)["tables"].items():
        folder = Path(__file__).parent.parent / "params" / "tables" / name
        assert {row["recipe"] for row in table["rows"]} == {path.stem for path in folder.glob("*.json")}
