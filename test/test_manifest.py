"""Manifests: what is shipped loads, and each thing wrong with one is said with its path."""

from __future__ import annotations

from pathlib import Path

import pytest

from alpamayo_ros.backends.kinematic import KinematicBackend
from alpamayo_ros.backends.registry import BACKENDS, backend_for, create_backend
from alpamayo_ros.chain_of_causation import TableError
from alpamayo_ros.errors import ModelError
from alpamayo_ros.manifest import CameraRequirement, load_manifest, shipped_models
from alpamayo_ros.types import CAMERA_NAMES, DEFAULT_CAMERAS

SHIPPED = shipped_models()
GOOD = """
name: mine
backend: kinematic
licence: MIT
cameras: {minimum: 1, maximum: 4, allowed: [front_wide, front_tele]}
"""


def written(tmp_path: Path, content: str | bytes) -> str:
    """A manifest file's path."""
    path = tmp_path / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models(name: str) -> None:
    """Each is named as its file, knows a backend that exists, and takes the default cameras."""
    manifest = load_manifest(name)
    assert manifest.name == name and manifest.backend in BACKENDS and manifest.licence
    manifest.cameras.check(DEFAULT_CAMERAS, name)


def test_kinematic_loads_and_closes() -> None:
    """Through the registry, as the node does."""
    backend = create_backend("kinematic")
    backend.load()
    backend.warm_up(DEFAULT_CAMERAS)
    backend.close()
    assert backend.manifest.name == "kinematic"


def test_by_path(tmp_path: Path) -> None:
    """A path is told from a name by its slash or suffix; absent entries have their defaults."""
    manifest = load_manifest(written(tmp_path, GOOD))
    assert (manifest.name, manifest.licence, manifest.takes_navigation) == ("mine", "MIT", False)
    assert manifest.cameras == CameraRequirement(1, 4, ("front_wide", "front_tele"))
    assert manifest.options == {} and manifest.path == tmp_path / "mine.yaml"


def test_what_its_user_should_know(tmp_path: Path) -> None:
    """Note and questions are optional; name, licence and note make one line."""
    plain = load_manifest(written(tmp_path, GOOD))
    assert (plain.note, plain.takes_questions) == ("", False)
    assert plain.introduction() == "model mine, licence MIT"
    more = "takes_questions: true\nnote: weights\n  are random\n"
    noted = load_manifest(written(tmp_path, GOOD + more))
    assert noted.takes_questions
    assert noted.introduction() == "model mine, licence MIT; note: weights are random"


def test_options_laid_over(tmp_path: Path) -> None:
    """Overrides win one by one; the manifest itself stays as it was."""
    manifest = load_manifest(written(tmp_path, GOOD + "options: {a: 1, b: {c: 2}}\n"))
    changed = manifest.with_options({"b": 3, "d": None})
    assert changed.options == {"a": 1, "b": 3, "d": None}
    assert manifest.options == {"a": 1, "b": {"c": 2}}
    backend = create_backend("kinematic", options={"max_acceleration_mps2": 0.5})
    backend.load()
    assert isinstance(backend, KinematicBackend) and backend.limits.max_acceleration_mps2 == 0.5
    with pytest.raises(ModelError, match="unknown option speed"):
        create_backend("kinematic", options={"speed": 1}).load()


def test_the_users_table_reaches_backends_that_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an option, and only those; a table that cannot be used is refused for every backend."""
    monkeypatch.setitem(BACKENDS, "reasoning", f"{__name__}:Reasoning")
    table = tmp_path / "own.yaml"
    table.write_text("lateral: {hop: [hop over]}")
    reasoning = create_backend("kinematic", "reasoning", chain_of_causation=str(table))
    assert reasoning.manifest.options["chain_of_causation"] == str(table)
    assert "chain_of_causation" not in create_backend("kinematic", "reasoning").manifest.options
    create_backend("kinematic", chain_of_causation=str(table)).load()
    table.write_text("lateral: [hop over]")
    with pytest.raises(TableError, match=str(table)):
        create_backend("kinematic", chain_of_causation=str(table))


class Reasoning(KinematicBackend):
    """A backend that writes reasoning of its own."""

    reads_reasoning = True


@pytest.mark.parametrize("model", ("no_such_model", "", "models/none.yaml", "/nowhere/x.yml"))
def test_a_model_that_is_not_there(model: str) -> None:
    """Named, with what is shipped as the remedy."""
    with pytest.raises(ModelError, match="Shipped models: .*kinematic") as error:
        load_manifest(model)
    assert model in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    (
        ("", "no manifest"),
        ("- a\n", "no manifest"),
        ("name: [", "not YAML"),
        (b"\xff\xfe\x00name", "not YAML"),
        ("name: mine\nlicence: MIT\n", "lacks backend, cameras"),
        (GOOD.replace("minimum: 1", "minimum: few"), "`cameras` wants"),
        (GOOD.replace("minimum: 1", "minimum: 0"), "`cameras` wants"),
        (GOOD.replace("minimum: 1", "minimum: 5"), "1 <= `minimum` <= `maximum`"),
        (GOOD.replace("minimum: 1, ", ""), "`cameras` wants"),
        (GOOD.replace("[front_wide, front_tele]", "front_wide"), "`cameras` wants"),
        (GOOD.replace("front_tele", "front_far"), "unknown camera front_far"),
        (GOOD.replace("{minimum: 1, maximum: 4, allowed: [front_wide, front_tele]}", "4"), "got 4"),
        (GOOD + "options: [1, 2]\n", "`options` wants a mapping"),
        (GOOD + "options: fast\n", "`options` wants a mapping"),
        (GOOD + "note: [random]\n", "`note` wants a text"),
        (GOOD + "takes_questions: sometimes\n", "`takes_questions` wants true or false"),
        (GOOD + "takes_navigation: 'no'\n", "`takes_navigation` wants true or false"),
    ),
)
def test_a_manifest_that_is_wrong(content: str | bytes, said: str, tmp_path: Path) -> None:
    """ModelError with the file's path and what is wanted; nothing else is raised."""
    path = written(tmp_path, content)
    with pytest.raises(ModelError, match=said) as error:
        load_manifest(path)
    assert path in str(error.value)


def test_a_folder_is_no_manifest(tmp_path: Path) -> None:
    """A path that leads to a folder."""
    with pytest.raises(ModelError, match=str(tmp_path)):
        load_manifest(str(tmp_path) + "/")


def test_an_unknown_backend(tmp_path: Path) -> None:
    """By manifest or by parameter: named, with those that there are."""
    manifest = load_manifest(written(tmp_path, GOOD.replace("kinematic", "warp")))
    with pytest.raises(ModelError, match="no backend 'warp'; there are .*kinematic"):
        backend_for(manifest, manifest.backend)
    with pytest.raises(ModelError, match="no backend 'tensorrt9'"):
        create_backend("kinematic", "tensorrt9")


@pytest.mark.parametrize(
    ("requirement", "cameras", "said"),
    (
        ((4, 4), ("front_wide",), "takes 4 cameras, 1 are configured: front_wide"),
        ((2, 4), (), "takes 2 to 4 cameras, 0 are configured: none"),
        ((1, 2), ("front_wide", "front_tele", "cross_left"), "takes 1 to 2 cameras, 3"),
        ((1, 4), ("front_wide", "rear_tele"), "does not know camera rear_tele"),
    ),
)
def test_cameras_that_a_model_cannot_take(
    requirement: tuple[int, int], cameras: tuple[str, ...], said: str
) -> None:
    """Refused by count or by name, with the model's own limits."""
    allowed = tuple(name for name in CAMERA_NAMES if not name.startswith("rear"))
    with pytest.raises(ModelError, match=said):
        CameraRequirement(*requirement, allowed).check(cameras, "mine")
