from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from transforming import run_steps

from kpipe.errors import UsageError
from kpipe.record import Batch
from kpipe.transform.chain import Step, build


def kept(regex, name="grep", **columns):
    return run_steps(Batch([b"apple", b"pear", None, b"\xff\x00pp", b""], **columns), Step(name, regex)).values


def test_grep_the_value():
    assert kept("pp") == [b"apple", b"\xff\x00pp"]
    assert kept(r"\xff\x00") == [b"\xff\x00pp"]
    assert kept("^$") == [b""]
    assert kept("") == [b"apple", b"pear", b"\xff\x00pp", b""]


def test_grep_not_keeps_what_grep_does_not():
    assert kept("pp", "grep-not") == [b"pear", None, b""]


def test_grep_the_key():
    keys = [b"k1", None, b"k2", b"", b"x"]
    assert kept("key:^k", keys=keys) == [b"apple", None]
    assert kept("key:", keys=keys) == [b"apple", None, b"\xff\x00pp", b""]
    assert kept("key:^k") == []
    assert len(kept("key:^k", "grep-not")) == 5


def test_grep_a_header():
    headers = [[("t", b"a"), ("t", b"b")], [("t", None)], None, [], [("u", b"b")]]
    assert kept("header[t]:b", headers=headers) == [b"apple"]
    assert kept("header[t]:", headers=headers) == [b"apple"]
    assert kept("header[t]:b") == []


def test_a_pattern_may_look_like_a_prefix():
    batch = run_steps(Batch([b"key: 1", b"header[t]: 2", b"3"]), Step("grep", "(?:key|header)"))
    assert batch.values == [b"key: 1", b"header[t]: 2"]
    assert run_steps(Batch([b"key: 1"]), Step("grep", "(?:)key:")).values == [b"key: 1"]


def test_characters_beyond_ascii_are_units():
    values = ["éé".encode(), "é".encode(), b"\xc3\xa9\xa9"]
    assert run_steps(Batch(list(values)), Step("grep", "^é{2}$")).values == [values[0]]
    assert run_steps(Batch(list(values)), Step("grep", r"^(?:é|\\é)$")).values == [values[1]]
    with pytest.raises(UsageError, match=r"write \(\?:a\|é\)"):
        build([Step("grep", "[]aé]")])


@given(st.text(min_size=1), st.text())
def test_an_escaped_text_finds_itself(needle, around):
    assume(not needle.startswith(("key:", "header[")))
    batch = run_steps(Batch([(around + needle).encode()]), Step("grep", f"(?:){re.escape(needle)}"))
    assert len(batch) == 1


@given(st.lists(st.none() | st.binary(max_size=4), max_size=8), st.sampled_from(["a", "^$", "[^a]", r"\x00", "b|c"]))
def test_grep_and_grep_not_share_out_everything(values, regex):
    yes, no = Batch(list(values)), Batch(list(values))
    run_steps(yes, Step("grep", regex))
    run_steps(no, Step("grep-not", regex))
    indexes = [
        *(range(len(yes)) if yes.index is None else yes.index),
        *(range(len(no)) if no.index is None else no.index),
    ]
    assert sorted(indexes) == list(range(len(values)))
    assert None not in yes.values


def test_a_wrong_pattern_is_refused_with_its_position():
    with pytest.raises(UsageError, match=r"--grep é\(: not a regular expression \(.*position 1\)"):
        build([Step("grep", "é(")])
