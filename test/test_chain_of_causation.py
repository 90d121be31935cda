"""The table of decisions: what example sentences come to, a user's own table, and odd texts."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpamayo_ros.causation_text import Table
from alpamayo_ros.chain_of_causation import TableError, load_table, shipped_table

TABLE = shipped_table()
LEAD, ADAPT, STOP = "lead-obstacle following", "speed adaptation", "stop for static constraints"
KEEP, NUDGE, AROUND = "lane keeping and centring", "in-lane nudge", "out-of-lane nudge"
CHANGE, ABORT, TRACK = "lane change", "lateral manoeuvre abort", "set-speed tracking"
NONE = "none"


def test_the_decisions_that_there_are() -> None:
    """The paper's eight and nine, "none" last, and the five kinds of critical components."""
    assert TABLE.longitudinal == (
        TRACK, LEAD, ADAPT, "gap searching", "acceleration for passing", "yielding", STOP, NONE,
    )  # fmt: skip
    assert TABLE.lateral == (
        KEEP, "merge or split", NUDGE, AROUND, CHANGE, "pull-over", "turn", ABORT, NONE,
    )  # fmt: skip
    assert TABLE.categories == ("objects", "signals", "road_events", "lanes", "routing_intent")


EXAMPLES: tuple[tuple[str, str, str, str], ...] = (
    # text, longitudinal, lateral, components as "category: text; …"
    ("Keep distance to the lead vehicle since it is slower.", LEAD, NONE, "objects: lead vehicle"),
    ("Slow down for the curve ahead.", ADAPT, NONE, "lanes: curve"),
    ("Stop at the red light.", STOP, NONE, "signals: red light"),
    ("Yield to the pedestrian.", "yielding", NONE, "objects: pedestrian"),
    ("Yield to the pedestrian crossing at the crosswalk, then turn right.", "yielding", "turn",
     "objects: pedestrian; road_events: crosswalk"),
    ("Nudge left to increase clearance from the parked car.", NONE, NUDGE, "objects: parked car"),
    ("Nudging slightly to the right within the lane", NONE, NUDGE, ""),
    ("Change to the left lane to follow the route.", NONE, CHANGE,
     "lanes: left lane; routing_intent: route"),
    ("Move into the right lane and keep a safe distance.", LEAD, CHANGE, "lanes: right lane"),
    ("There is no lead vehicle, so maintain the current speed and keep lane.", TRACK, KEEP, ""),
    ("Do not change lanes; stay in lane and match the speed of the lead car.", LEAD, KEEP,
     "objects: lead car"),
    ("Don\u2019t stop, keep speed", TRACK, NONE, ""),
    ("No pedestrian or cyclist is near. Resume normal speed.", TRACK, NONE, ""),
    ("We do not need to yield to the cyclist.", NONE, NONE, ""),
    ("The lead vehicle is turning left, slow down behind it.", LEAD, NONE, "objects: lead vehicle"),
    ("The car ahead begins to change lanes.", NONE, NONE, "objects: car ahead"),
    ("The ego vehicle is turning left.", NONE, "turn", ""),
    ("Stop sign ahead: stop before the stop line.", STOP, NONE,
     "signals: Stop sign; lanes: stop line"),
    ("Slow vehicle ahead, nudge to the right.", NONE, NUDGE, "objects: Slow vehicle"),
    ("Stop, then turn left.", STOP, "turn", ""),
    ("SLOW DOWN, then STOP!", ADAPT, NONE, ""),
    ("Slow down and stop for the red traffic light", STOP, NONE, "signals: red traffic light"),
    ("Come to a complete stop at the intersection", STOP, NONE, "road_events: intersection"),
    ("Remain stopped because the traffic light is red", STOP, NONE, "signals: traffic light"),
    ("Wait for a gap in the oncoming traffic.", "gap searching", NONE, "objects: oncoming traffic"),
    ("Adjust speed to merge from the on-ramp.", "gap searching", "merge or split",
     "lanes: on-ramp"),
    ("Merge left at the lane ending", NONE, "merge or split", "lanes: lane ending"),
    ("Take the exit as the route says.", NONE, "merge or split",
     "routing_intent: Take the exit; routing_intent: route"),
    ("Accelerate to pass the slow truck.", "acceleration for passing", NONE, "objects: slow truck"),
    ("Overtaking the cyclist", "acceleration for passing", NONE, "objects: cyclist"),
    ("Abort the lane change because a vehicle approaches in the target lane.", NONE, ABORT,
     "objects: vehicle; lanes: target lane"),
    ("Lateral maneuver abort", NONE, ABORT, ""),
    ("Lateral manoeuvre abort", NONE, ABORT, ""),
    ("Maneuver around the double-parked truck", NONE, AROUND, "objects: double-parked truck"),
    ("manoeuvring around a pothole", NONE, AROUND, "objects: pothole"),
    ("Lane keeping and centering", NONE, KEEP, ""),
    ("lane keeping and centring", NONE, KEEP, ""),
    ("Pull over to the curb for the ambulance", NONE, "pull-over",
     "lanes: curb; objects: ambulance"),
    ("A lane change is not possible, keep lane.", NONE, KEEP, ""),
    ("Turn right at the junction", NONE, "turn", "road_events: junction"),
    ("Change into the left turn lane", NONE, CHANGE, "lanes: left turn lane"),
    ("Accelerate since the light is green", TRACK, NONE, "signals: light is green"),
    ("Steer left to avoid the pothole", NONE, NUDGE, "objects: pothole"),
    ("Avoid changing lanes", NONE, NONE, ""),
    ("Maintain a safe following distance to the vehicle ahead.", LEAD, NONE,
     "objects: vehicle ahead"),
    ("Slow down to keep a safe distance to the lead vehicle", LEAD, NONE, "objects: lead vehicle"),
    ("Stopper lanes, unyielding curbstone carpet", NONE, NONE, ""),
    ("The sky is blue.", NONE, NONE, ""),
    ("", NONE, NONE, ""),
)  # fmt: skip


@pytest.mark.parametrize(("text", "longitudinal", "lateral", "named"), EXAMPLES)
def test_examples(text: str, longitudinal: str, lateral: str, named: str) -> None:
    """What sentences like a model's come to."""
    decisions, components = TABLE.parse(text)
    assert (decisions.longitudinal, decisions.lateral) == (longitudinal, lateral)
    wanted = sorted(named.split("; ")) if named else []
    assert sorted(f"{c.category}: {c.text}" for c in components) == wanted


phrases = st.sampled_from(
    [
        (section, name, text)
        for section in ("longitudinal", "lateral", "critical_components")
        for name, texts in TABLE.content[section].items()
        for text in texts
    ]
)


@given(phrases, st.booleans(), st.sampled_from(("", "Well. ", "\n", "and ")))
def test_each_phrase_stands_for_its_entry(
    phrase: tuple[str, str, str], capitals: bool, before: str
) -> None:
    """Every phrase of the table by itself, in whatever case, at the beginning of a clause."""
    section, name, text = phrase
    words = text.removeprefix("^")
    decisions, components = TABLE.parse(before + (words.upper() if capitals else words))
    if section == "critical_components":
        assert name in {component.category for component in components}
    else:
        assert getattr(decisions, section) == name


@given(phrases)
def test_a_negated_phrase_counts_for_nothing(phrase: tuple[str, str, str]) -> None:
    """After "Do not" every phrase, decision or component."""
    section, name, text = phrase
    decisions, components = TABLE.parse(f"Do not {text.removeprefix('^')}")
    if section == "critical_components":
        assert components == ()
    elif " and " not in text:  # where a clause ends, so does the negation
        assert getattr(decisions, section) == NONE


pieces = st.sampled_from(
    ("stop", "lead", "vehicle", "no", "isn't", "and", ".", ",", "\u2019", "<|im_end|>", "\u202e",
     "\ud83d\ude97", "turn left", "lane change", "\x00", "\n", "-", "ﬁ", "İ", "ß", "to", "begins")
)  # fmt: skip


@given(st.text() | st.lists(pieces).map(" ".join))
def test_any_text(text: str) -> None:
    """Whatever a model writes gives decisions of the table and each component once."""
    decisions, components = TABLE.parse(text)
    assert decisions.longitudinal in TABLE.longitudinal and decisions.lateral in TABLE.lateral
    assert len(set(components)) == len(components)
    assert {component.category for component in components} <= set(TABLE.categories)
    assert all(len(component.text) <= 80 for component in components)


@pytest.mark.parametrize(
    "piece",
    ("stop ", "no ", "x", "the ", "lead ", ".", "-\u200b\U0001f600", "slow down and ", "is ",
     "vehicle is ", "it isn't ", "vehicle that ", "lane change is ", "red the ", "a\u2019",
     "the lead the "),
)  # fmt: skip
def test_huge_texts_take_linear_time(piece: str) -> None:
    """100 kB of anything, ten times 10 kB: at most three times as long a character."""

    def seconds(size: int) -> float:
        text = (piece * (size // len(piece) + 1))[:size]
        runs = []
        for _ in range(3):
            start = time.process_time()
            TABLE.parse(text)
            runs.append(time.process_time() - start)
        return min(runs)

    assert seconds(100_000) < 30 * seconds(10_000) + 0.05


# ---- a table of one's own --------------------------------------------------------------------


def own(tmp_path: Path, content: str) -> Table:
    """The shipped table with this one laid over it."""
    path = tmp_path / "own.yaml"
    path.write_text(content, encoding="utf-8")
    return load_table(str(path))


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    """New phrases and entries join, a phrase of another entry moves, the rest stays; "none" is
    still last."""
    table = own(
        tmp_path,
        "lateral:\n  lane change: [hop over]\n  u-turn: [u turn]\n"
        "critical_components:\n  weather: [rain, hail]\n  objects: [moose]\n",
    )
    assert table.longitudinal == TABLE.longitudinal
    assert table.lateral == (*TABLE.lateral[:-1], "u-turn", NONE)
    assert table.categories == (*TABLE.categories, "weather")
    assert table.parse("Hop over to the left")[0].lateral == CHANGE
    assert (table.parse("Make it, U-turn")[0].lateral, TABLE.parse("U-turn")[0].lateral) == (
        "u-turn",
        "turn",
    )
    named = table.parse("Slow down for rain and a moose, stop at the red light")[1]
    assert [c.category for c in named] == ["weather", "objects", "signals"]
    assert TABLE.parse("Slow down for the rain")[1][0].category == "road_events"


def test_a_table_instead(tmp_path: Path) -> None:
    """`replace: true`: nothing of the shipped phrases is left; words such as "not" still work."""
    table = own(
        tmp_path,
        "replace: true\nlongitudinal:\n  go: [go]\nlateral:\n  left: [left]\n"
        "critical_components:\n  things: [cow]\n",
    )
    assert (table.longitudinal, table.lateral) == (("go", NONE), ("left", NONE))
    assert table.categories == ("things",)
    decisions, named = table.parse("Stop. Go left past the cows")
    assert (decisions.longitudinal, decisions.lateral) == ("go", "left")
    assert [(c.category, c.text) for c in named] == [("things", "cows")]
    assert table.parse("do not go")[0].longitudinal == NONE


@pytest.mark.parametrize(
    ("content", "said"),
    (
        ("[1, 2]", "no table"),
        ("", "no table"),
        ("lateral: [", "own.yaml"),
        ("\x00", "own.yaml"),
        ("sideways: {}", "unknown key sideways; known: longitudinal"),
        ("lateral: [turn]", "lateral wants a mapping"),
        ("lateral: {turn: left}", "lateral: turn is 'left', wanted a list"),
        ("lateral: {turn: [1]}", r"lateral: turn is \[1\], wanted a list"),
        ("lateral: {7: [left]}", "lateral has the name 7"),
        ("lateral: {turn: ['...']}", "lateral: turn has '...', a phrase without a word"),
        ("lateral: {turn: [the]}\nignored_words: [the]", "a phrase without a word"),
        ("lateral: {a: [go left], b: [Going-left]}", "b has 'Going-left', which a has too"),
        ("negations: [no]", "negations is .*quoted"),
        ("spellings: [a]", "spellings wants a mapping"),
        ("replace: 3", "replace is 3, wanted true or false"),
        ("replace: true\nlateral: {turn: [left]}", "needs entries in longitudinal"),
        ("when: 2001-99-99", "own.yaml"),
    ),
)
def test_a_table_that_is_wrong(content: str, said: str, tmp_path: Path) -> None:
    """TableError naming the file and the key."""
    with pytest.raises(TableError, match=said) as error:
        own(tmp_path, content)
    assert "own.yaml" in str(error.value)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    """Its path, and what is wrong with it."""
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(TableError) as error:
            load_table(str(path))
        assert str(path) in str(error.value)
