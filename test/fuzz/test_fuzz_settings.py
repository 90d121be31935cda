"""Parameters, manifests, tables: a named refusal, or something that can be used."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzz import wild
from fuzz.budget import fuzzed
from hypothesis import strategies as st

from alpamayo_ros import resources
from alpamayo_ros.backends.registry import create_backend
from alpamayo_ros.chain_of_causation import load_table
from alpamayo_ros.errors import ModelError, UserError
from alpamayo_ros.manifest import Manifest, load_manifest
from alpamayo_ros.parameter_table import PARAMETERS
from alpamayo_ros.parameters import (
    PlannerSettings,
    SettingsError,
    parsed_option,
    read_parameter_file,
    settings_from,
)

NAMES = [parameter.name for parameter in PARAMETERS]
DEFAULTS = {parameter.name: parameter.default for parameter in PARAMETERS}
MODELS = resources.resource("models")
MANIFESTS = [path.read_text() for path in sorted(MODELS.glob("*.yaml"))]
PARAMETER_FILE = resources.resource("config", "planner.yaml").read_text()
TABLE = """replace: false
ego: [ego, we]
longitudinal: {stop: ["stop for", "halt"]}
lateral: {none: []}
critical_components: {pedestrian: [walker]}
spellings: {traffick: traffic}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all files."""
    return tmp_path_factory.mktemp("fuzz")


def written(folder: Path, name: str, content: str | bytes) -> Path:
    """A file with that content; a text may have characters that no encoding has."""
    path = folder / name
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    path.write_bytes(data)
    return path


@fuzzed(
    0.1,
    values=st.dictionaries(
        st.one_of(st.sampled_from(NAMES), st.sampled_from(NAMES), wild.TEXTS),
        st.one_of(wild.TREES, st.lists(wild.REALS, max_size=8), st.lists(wild.TEXTS, max_size=5)),
        max_size=5,
    ),
)
def test_parameters(values: dict[str, Any]) -> None:
    """Settings, or SettingsError that names each parameter that is wrong."""
    try:
        settings = settings_from(values)
    except SettingsError as error:
        assert any(name in str(error) for name in values)
        return
    assert isinstance(settings, PlannerSettings)
    assert len(settings.cameras) >= 1


@fuzzed(0.03, entry=st.one_of(wild.TEXTS, wild.TREES.map(lambda tree: f"key={tree}"),
                              st.text(max_size=20).map(lambda text: f"key={text}")))  # fmt: skip
def test_model_options(entry: str) -> None:
    """A key and a value, or ValueError, which settings_from names."""
    try:
        key, _ = parsed_option(entry)
    except ValueError:
        with pytest.raises(SettingsError):
            settings_from({"model_options": [entry]})
        return
    assert key and key in entry


def yaml_files(goods: list[str]) -> st.SearchStrategy[str | bytes]:
    """Damaged files, other YAML, no YAML."""
    trees = st.one_of(
        wild.TREES,
        st.sampled_from(goods).flatmap(lambda good: wild.mutated_tree(yaml.safe_load(good))),
    )
    return st.one_of(
        st.sampled_from(goods).flatmap(wild.damaged_text),
        trees.map(_dumped),
        st.text(max_size=60),
        st.binary(max_size=40),
        st.sampled_from(["[" * 5000, "a: &a [*a]", "2024-99-99", "!!python/name:os.system",
                         "1:99999999999999999999:0", "? {a: b}\n: c", "!!int x"]),
    )  # fmt: skip


def _dumped(tree: Any) -> str:
    try:
        return yaml.safe_dump(tree)
    except (yaml.YAMLError, ValueError):
        return json.dumps(str(tree))


@fuzzed(0.03, content=yaml_files([PARAMETER_FILE]))
def test_parameter_files(folder: Path, content: str | bytes) -> None:
    """Settings, or a UserError."""
    try:
        settings_from(read_parameter_file(written(folder, "parameters.yaml", content)))
    except UserError as error:
        assert str(error)


@fuzzed(0.05, content=yaml_files(MANIFESTS))
def test_manifests(folder: Path, content: str | bytes) -> None:
    """A manifest whose backend loads or refuses, or a UserError."""
    path = written(folder, "model.yaml", content)
    try:
        manifest = load_manifest(str(path))
    except ModelError as error:
        assert str(path) in str(error)
        return
    assert isinstance(manifest, Manifest) and manifest.introduction()
    try:
        backend = create_backend(str(path))
        if manifest.backend == "kinematic":
            backend.load()
    except UserError as error:
        assert str(error)


@fuzzed(0.02, content=yaml_files([TABLE]))
def test_tables_of_decisions(folder: Path, content: str | bytes) -> None:
    """A table that reads any text, or a UserError."""
    try:
        table = load_table(str(written(folder, "table.yaml", content)))
    except UserError as error:
        assert str(error)
        return
    decisions, _ = table.parse("Stop for the walker ahead, then nudge left.")
    assert decisions.longitudinal and decisions.lateral


def test_dates_are_no_numbers() -> None:
    """What hypothesis draws as a date is one after YAML too."""
    assert yaml.safe_load(_dumped({"a": datetime.date(2024, 1, 1)}))["a"].year == 2024
