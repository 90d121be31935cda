"""Memory by arithmetic: equal to the modules' own counts, near the published loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpamayo_ros import cli
from alpamayo_ros.errors import ModelError
from alpamayo_ros.fit.devices import DEVICES, GB, GIB
from alpamayo_ros.fit.memory import Load
from alpamayo_ros.fit.verdict import Model, most_samples, need
from alpamayo_ros.fit.weights import shapes
from alpamayo_ros.vla.config_reader import parse_config
from alpamayo_ros.vla.model import parameter_counts
from alpamayo_ros.vla.quant.precisions import FLOATS, PRECISIONS, choice
from alpamayo_ros.vla.sizes import backbone_shape, head_config


def model(size: str = "full", version: str = "r1") -> Model:
    config = parse_config(head_config(size, version), size)
    return Model(size, config, backbone_shape(size))


FULL = model()


@pytest.mark.parametrize("version", ["r1", "1.5"])
@pytest.mark.parametrize("size", ["tiny", "small", "full"])
def test_parameters_are_the_modules_own(size: str, version: str) -> None:
    """Part by part; the full size is the published 11,078,526,194."""
    one = model(size, version)
    counted = {name: part.parameters for name, part in shapes(one.config, one.backbone).items()}
    assert counted == parameter_counts(one.config, one.backbone)
    if size == "full":
        assert sum(counted.values()) == 11_078_526_194


@pytest.mark.parametrize(
    ("weights", "published_gib", "tolerance"),
    # What others loaded, printed without a unit: 22.16 GB of bfloat16 are 20.6 GiB.
    [("bfloat16", 20.89, 0.03), ("nf4", 7.63, 0.10), ("int2", 4.14, 0.10)],
)
def test_published_loads(weights: str, published_gib: float, tolerance: float) -> None:
    loaded = need(FULL, choice(weights), Load()).loaded / GIB
    assert loaded == pytest.approx(published_gib, rel=tolerance)


def test_published_peak() -> None:
    """10.44 while NF4 plans, eager, one sample: not below, where it would promise what does not
    fit, and at most a tenth above; so that the smallest RTX 3080 does not take it."""
    peak = need(FULL, choice("nf4"), Load("eager", 1)).peak / GIB
    assert 10.44 <= peak <= 10.44 * 1.1
    card = next(device for device in DEVICES if device.name == "RTX 3080 10 GB")
    assert most_samples(FULL, choice("nf4"), Load("eager", 1), card) == 0


def test_bfloat16_is_two_bytes_a_parameter() -> None:
    assert need(FULL, choice("bfloat16"), Load()).loaded == 2 * 11_078_526_194


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(sorted(PRECISIONS)), st.integers(1, 300), st.integers(1, 5000))
def test_bytes_of_a_matrix(name: str, rows: int, columns: int) -> None:
    """Never less than its bits; the rest is scales and padding of less than a group a row."""
    precision = PRECISIONS[name]
    size = precision.matrix_bytes(rows, columns)
    assert size >= rows * columns * precision.bits / 8
    groups = 1 if precision.group is None else -(-columns // precision.group)
    padding = 0 if precision.group is None else precision.group
    assert size <= rows * ((columns + padding) * precision.bits / 8 + 1
                           + groups * precision.group_bytes)  # fmt: skip


def test_fewer_bits_more_samples() -> None:
    """On every device; `fast`, which repeats no prompt, takes less for many samples than eager."""
    for device in DEVICES:
        counts = [
            most_samples(FULL, choice(name), Load("fast"), device)
            for name in ("float32", "bfloat16", "int8", "nf4", "int2")
        ]
        assert counts == sorted(counts)
    many = [need(FULL, choice("nf4"), Load(runtime, 16)).peak for runtime in ("fast", "eager")]
    assert many[0] < many[1] - 5 * GIB  # eager repeats 15 prompts, 0.45 GB of keys and values each
    by_name = {device.name: device for device in DEVICES}
    assert most_samples(FULL, choice("bfloat16"), Load("fast"), by_name["RTX 3080 10 GB"]) == 0
    assert most_samples(FULL, choice("bfloat16"), Load("fast"), by_name["H200 141 GB"]) > 16


def test_what_options_hold() -> None:
    """Keys and values of the 10B model's prompt, 0.42 GiB, once more where an option keeps them; of
    `fast` guidance has the places behind it twice, of `eager` all."""

    def held(runtime: str = "fast", **options: Any) -> float:
        plan = need(FULL, choice("nf4"), Load(runtime, 1, **options)).plan
        return plan["keys and values"] / GIB

    prompt = 3086 * 36 * 2 * 8 * 128 * 2 / GIB
    assert prompt == pytest.approx(0.42, abs=0.005)
    assert held(streaming=True) - held() == pytest.approx(prompt)
    assert prompt < held(reasoning="after") - held() < 1.2 * prompt
    assert 0 < held(guidance=True) - held() < 0.2 * prompt
    assert held("eager", guidance=True) == pytest.approx(2 * held("eager"))


def test_the_boundary() -> None:
    """As many samples as found fit, and one more does not."""
    device = next(one for one in DEVICES if one.name == "RTX 3090")
    weights, load = choice("bfloat16"), Load("eager")
    count = most_samples(FULL, weights, load, device)
    peaks = [need(FULL, weights, Load("eager", n)).peak for n in (max(count, 1), count + 1)]
    assert peaks[1] > device.free_bytes
    assert count == 0 or peaks[0] <= device.free_bytes


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("int3", "precision 'int3' is none of float32, bfloat16"),
        ({"wheels": "int8"}, "no part wheels; there are vision, backbone"),
        ({"lm_head": "nf4"}, "lm_head as nf4: fewer than 8 bits"),
    ],
)
def test_choices_that_are_refused(weights: object, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        choice(weights)  # type: ignore[arg-type]


def test_lm_head_keeps_its_bits() -> None:
    """Whatever is asked for the rest."""
    for name in PRECISIONS:
        assert PRECISIONS[choice(name).lm_head].bits >= 8
    assert not choice({"backbone": "int8"}).of("vision").name not in FLOATS


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table, JSON in bytes, the price beside what fits; 1 where nothing does."""
    out = tmp_path / "fit.json"
    arguments = ["fit", "--weights", "bfloat16,int2", "--device", "3090", "--device", "Nano"]
    assert cli.main([*arguments, "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "lacks" in printed and "destroys the output" in printed and "*" in printed
    found = {(one["device"], one["precision"]): one
             for one in json.loads(out.read_text())["verdicts"]}  # fmt: skip
    nano = found["Orin Nano 8 GB", "bfloat16"]
    assert not nano["fits"] and nano["loaded_bytes"] == sum(nano["weight_bytes"].values())
    assert nano["loaded_bytes"] / GB == pytest.approx(22.16, abs=0.01)
    assert not found["RTX 3090", "int2"]["usable_without_training"]
    assert cli.main(["fit", "--weights", "bfloat16", "--memory", "8"]) == 1
    assert cli.main(["fit", "--device", "Cray"]) == 2
    assert "or give --memory GIB" in capsys.readouterr().err
    assert cli.main(["fit", "--runtime", "eager", "--reasoning", "after"]) == 2
    assert "of --runtime fast alone" in capsys.readouterr().err
    assert cli.main(["fit", "--reasoning", "after", "--guidance", "--approximate-streaming"]) == 0
