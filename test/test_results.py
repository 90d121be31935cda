"""The README's results are what the kept evaluations give, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alpamayo_ros import cli
from alpamayo_ros.evaluation.page import BEGIN, END
from alpamayo_ros.manifest import load_manifest

ROOT = Path(__file__).resolve().parents[1]


def test_the_readme_is_what_its_summaries_give(tmp_path: Path) -> None:
    """Checked in place, and written anew into a page without results."""
    readme = ROOT / "README.md"
    assert cli.main(["results", str(readme), "--check"]) == 0
    text = readme.read_text()
    bare = tmp_path / "README.md"
    head, _, rest = text.partition(BEGIN)
    bare.write_text(f"{head}{BEGIN}{END}{rest.partition(END)[2]}")
    assert cli.main(["results", str(bare), "--kept", str(ROOT / "results")]) == 0
    assert bare.read_text() == text


def evaluation(folder: Path, ade: float) -> Path:
    """What `alpamayo evaluate` writes, as far as it is read."""
    folder.mkdir()
    horizons = ("1", "2", "3", "4", "5", "6.4")
    values = {h: {"value": ade * float(h), "low": 0.0, "high": 99.0} for h in horizons}
    metrics = {"ade_m": values, "fde_m": values, "miss": values}
    summary = {"stand_still": metrics, "constant_velocity": metrics, "a_student": metrics}
    (folder / "summary.json").write_text(json.dumps(summary))
    report = {"instants": 7, "bags": {"drive": "/home/me/drive"}, "notes": ["few"],
              "interval": {"level": 0.95, "of": "20 bags"}, "groups": {}, "models": {}}  # fmt: skip
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def test_a_typed_figure_is_found_and_paths_are_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "PAGE.md"
    page.write_text(f"Before.\n\n{BEGIN}\n{END}\n\nBehind.\n")
    scores = evaluation(tmp_path / "scores", 0.125)
    assert cli.main(["results", str(page), "--add", f"mine={scores}"]) == 0
    text = page.read_text()
    assert text.startswith("Before.\n\n") and text.endswith(f"{END}\n\nBehind.\n")
    assert "**mine**: 7 instants of `drive`; brackets: 95% over 20 bags." in text
    assert "Note: few." in text
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert rows == ["ADE at", "a student", "constant velocity", "stand still"]
    assert "| 0.125 | 0.250 | 0.375 | 0.500 | 0.625 | 0.800 | 0.800 [0.000, 99.000] | 80% |" in text
    for kept in (tmp_path / "results" / "mine").iterdir():
        assert "/home" not in kept.read_text()
    assert cli.main(["results", str(page), "--check"]) == 0
    page.write_text(text.replace("0.375", "0.374", 1))
    assert cli.main(["results", str(page), "--check"]) == 1
    assert "differs from what" in capsys.readouterr().err


def test_a_model_that_changed_since_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shipped baseline as it is, then as it would be after other options; a model of which
    nothing is known here is let be."""
    page = tmp_path / "PAGE.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    scores = evaluation(tmp_path / "scores", 0.1)
    report = json.loads((scores / "report.json").read_text())
    manifest = load_manifest("kinematic")
    changed = manifest.with_options({"horizon": 2})
    for fingerprint, code in ((manifest.fingerprint, 0), (changed.fingerprint, 1)):
        report["models"] = {"kinematic": fingerprint, "nobodys_model": "1"}
        (scores / "report.json").write_text(json.dumps(report))
        assert cli.main(["results", str(page), "--add", f"mine={scores}"]) == 0
        assert cli.main(["results", str(page), "--check"]) == code
    assert "mine: kinematic is another model now" in capsys.readouterr().err


def test_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "PAGE.md"
    page.write_text("no markers\n")
    assert cli.main(["results", str(page)]) == 2
    assert "has no evaluation; add one" in capsys.readouterr().err
    scores = evaluation(tmp_path / "scores", 0.1)
    assert cli.main(["results", str(page), "--add", f"mine={scores}"]) == 2
    assert "the page wants one line" in capsys.readouterr().err
    assert cli.main(["results", str(page), "--add", "../mine=x"]) == 2
