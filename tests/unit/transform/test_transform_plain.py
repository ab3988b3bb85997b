"""What needs no JSON: substitutions, tombstones, topic names, samples; and timestamps from a field."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transforming import run_steps

from kpipe.errors import UsageError
from kpipe.record import TIMESTAMP_APPEND, TIMESTAMP_CREATE, Batch
from kpipe.trace import Hop, Tracer
from kpipe.transform.chain import Step, build
from kpipe.transform.event_time import parse_time


def values(step, *before, **columns):
    return run_steps(Batch(list(before), **columns), step).values


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("s/a/b/", b"aXa", b"bXa"),
        ("s/a/b/g", b"aXa", b"bXb"),
        ("s/A/b/gi", b"aXA", b"bXb"),
        ("s|/|\\||g", b"a/b/c", b"a|b|c"),
        (r"s/\//-/", b"a/b", b"a-b"),
        (r"s/(\w)(\w)/\2\1/", b"ab", b"ba"),
        (r"s/(?P<x>\w)b/\g<x>!/", b"ab", b"a!"),
        ("s/b/[&]/", b"abc", b"a[b]c"),
        (r"s/b/[\&\0]/", b"abc", b"a[&b]c"),
        (r"s/b/\n\t\\/", b"abc", b"a\n\t\\c"),
        ("s/b//", b"abc", b"ac"),
        ("s/^/é/", b"\xff", b"\xc3\xa9\xff"),
        ("s/é+/e/", "éé".encode(), b"e"),
        ("s/[0-9]{4}$/****/", b"1234 5678", b"1234 ****"),
        ("s/a|(b)/<\\1>/g", b"ab", b"<><b>"),
        ("s/^x/y/gm", b"x\nx", b"y\ny"),
        ("s/a.b/-/s", b"a\nb", b"-"),
        (r"s/[\]x]*a/-/", b"]xa", b"-"),
    ],
)
def test_regex_replace(text, before, after):
    assert values(Step("regex-replace", text), before, None) == [after, None]


def test_regex_replace_elsewhere():
    headers = [[("h", b"aa"), ("g", b"a"), ("h", None), ("h", b"a")], None]
    batch = run_steps(
        Batch([b"a", b"a"], keys=[b"aa", None], headers=headers),
        Step("regex-replace", "key:s/a/b/"),
        Step("regex-replace", "header[h]:s/a/c/g"),
    )
    assert batch.values == [b"a", b"a"]
    assert batch.keys == [b"ba", None]
    assert batch.headers == [[("h", b"cc"), ("g", b"a"), ("h", None), ("h", b"c")], None]
    bare = run_steps(Batch([b"a"]), Step("regex-replace", "key:s/a/b/"), Step("regex-replace", "header[h]:s/a/c/g"))
    assert bare.keys is None
    assert bare.headers is None


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "write s/REGEX/REPLACEMENT/"),
        ("a/b/", "not a substitution"),
        ("s", "not a substitution"),
        ("saba", "not a substitution"),
        ("s/a/b", "there are not three /"),
        ("s/a/b/c/", "there are not three /"),
        ("s/a/b/x", "unknown flag x; flags are g"),
        ("s/(/b/", "not a regular expression"),
        (r"s/a/\1/", "there is no group 1"),
        (r"s/a/\g<n>/", "there is no group n"),
        (r"s/a/\q/", r"\\q means nothing in a replacement"),
    ],
)
def test_regex_replace_arguments(text, advice):
    with pytest.raises(UsageError, match=advice):
        build([Step("regex-replace", text)])


@given(st.binary(), st.text(alphabet=st.characters(exclude_characters="/\\&", exclude_categories=["Cs"])))
def test_a_literal_replacement_comes_through_as_it_is(value, replacement):
    (after,) = values(Step("regex-replace", f"s/a/{replacement}/g"), value)
    assert after == value.replace(b"a", replacement.encode())


def test_a_character_beyond_ascii_after_a_class_and_a_backslash():
    assert values(Step("grep", "[[]é+"), "[éé".encode(), b"[") == ["[éé".encode()]
    assert values(Step("grep", "^\\é$"), "é".encode()) == ["é".encode()]
    assert values(Step("grep", "^[^]a]é"), "bé".encode(), "]é".encode()) == ["bé".encode()]


def test_tombstone_if():
    batch = Batch([b"DEL", b"x", None, b""], keys=[b"1", b"2", b"3", b"4"])
    assert run_steps(batch, Step("tombstone-if", "^(DEL|)$")).values == [None, b"x", None, None]
    assert values(Step("tombstone-if", "key:^d"), b"a", b"b", keys=[b"d1", b"k"]) == [None, b"b"]
    assert values(Step("tombstone-if", "header[op]:^d"), b"a", b"b", headers=[[("op", b"d")], None]) == [None, b"b"]


def test_value_null_and_value_empty():
    before = [b"\\N", b"", None, b"null", b"\\N "]
    assert values(Step("value-null", "\\N"), *before) == [None, b"", None, b"null", b"\\N "]
    assert values(Step("value-null", ""), *before) == [b"\\N", None, None, b"null", b"\\N "]
    assert values(Step("value-empty"), *before) == [b"\\N", b"", b"", b"null", b"\\N "]


def topics(text, *names, targets=None):
    batch = Batch([b"v"] * len(names), topics=list(names))
    batch.targets = targets
    return run_steps(batch, Step("rename-topic", text))


def test_rename_topic():
    assert topics(r"^(.*)$=copy.\1", "orders", "x").targets == ["copy.orders", "copy.x"]
    assert topics("^prod-=", "prod-a", "b").targets == ["a", None]
    assert topics("(?=o)o=0", "foo").targets == ["f0o"]
    assert topics("^=eu-&", "a", "b", targets=["x", None]).targets == ["eu-x", "eu-b"]


def test_rename_topic_makes_only_legal_names():
    batch = topics("^a.*=", "a", "ab", "b")
    assert batch.topics == ["b"]
    assert "'' is no topic name" in batch.bad[0].error.what
    assert topics("^=é", "a").bad
    assert topics(f"^={'x' * 249}", "a").bad
    assert topics("a=.", "a").bad
    assert topics("a=..", "a").bad


def test_rename_topic_needs_a_topic():
    batch = run_steps(Batch([b"v"]), Step("rename-topic", "a=b"))
    assert "no source topic to rename" in batch.bad[0].error.what


@pytest.mark.parametrize(
    ("text", "advice"),
    [("a", "write REGEX=REPL"), ("=a", "write REGEX=REPL"), ("(=a", "not a regular"), (r"a=\1", "there is no group 1")],
)
def test_rename_topic_arguments(text, advice):
    with pytest.raises(UsageError, match=advice):
        build([Step("rename-topic", text)])


def sampled(rate, *more, count=2000):
    batch = Batch([b"v"] * count)
    return run_steps(batch, Step("sample", rate), *more).index


def test_sample():
    assert len(sampled("0")) == 0
    assert len(sampled("1")) == 2000
    assert len(sampled("100%")) == 2000
    seed = Step("sample-seed", "7")
    assert sampled("0.5", seed) == sampled("50%", seed) == sampled("1/2", seed)
    assert sampled("0.5", seed) != sampled("0.5", Step("sample-seed", "8"))
    assert sampled("0.5") != sampled("0.5")
    assert 100 < len(sampled(".1", seed)) < 300


@pytest.mark.parametrize("rate", ["", "x", "2", "101%", "-0.1", "1/0", "3/2", "1e-3", "1%/2"])
def test_sample_arguments(rate):
    with pytest.raises(UsageError, match="write a share such as"):
        build([Step("sample", rate)])


def test_sample_seed_argument():
    with pytest.raises(UsageError, match="--sample-seed x: not a number"):
        build([Step("sample", "1"), Step("sample-seed", "x")])


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0", 0),
        ("1763884800000", 1763884800000),
        ("1763884800000.0", 1763884800000),
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01T01:00:00.5+01:00", 500),
        ("1970-01-02", 86_400_000),
        ("1970-01-01T00:00:00.001999", 1),
        (str(2**63 - 1), 2**63 - 1),
    ],
)
def test_times(text, ms):
    assert parse_time(text) == ms


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "1e12", "1969-12-31T23:59:59Z", str(2**63), "9" * 400, "٣"])
def test_no_times(text):
    with pytest.raises(ValueError, match=r"is no time|out of range"):
        parse_time(text)


@given(st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis adds the zone
def test_iso_8601_round_trip(time):
    ms = parse_time(time.isoformat())
    assert datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000) == time.replace(
        microsecond=time.microsecond // 1000 * 1000
    )


def test_timestamp_from():
    batch = Batch(
        [b'{"t":5}', b'{"t":"1970-01-01T00:00:01Z"}', None, b"{}", b'{"t":"x"}', b"x", b'{"t":1.5}'],
        timestamps=[(TIMESTAMP_APPEND, 9)] * 7,
    )
    run_steps(batch, Step("timestamp-from", ".t"))
    assert batch.timestamps == [(TIMESTAMP_CREATE, 5), (TIMESTAMP_CREATE, 1000), (TIMESTAMP_APPEND, 9)]
    reasons = [bad.error.what for bad in batch.bad]
    assert [bad.index for bad in batch.bad] == [3, 4, 5, 6]
    assert "has no .t" in reasons[0]
    assert re.search(r"'x' is no time; write milliseconds", reasons[1])
    assert "not JSON" in reasons[2]
    assert "'1.5' is no time" in reasons[3]
    assert run_steps(Batch([b'{"t":5}']), Step("timestamp-from", "t")).timestamps == [(TIMESTAMP_CREATE, 5)]


def test_timestamp_from_keeps_the_time_at_the_source_for_the_trace():
    batch = Batch(
        [b'{"t":[5,6]}', b'{"t":[7]}'],
        timestamps=[(TIMESTAMP_APPEND, 90), (TIMESTAMP_APPEND, 91)],
        topics=["s"] * 2,
        partitions=[0] * 2,
        offsets=[3, 4],
    )
    run_steps(batch, Step("timestamp-from", ".t[0]"), Step("split", ".t[]"), Step("timestamp-from", "."))
    Tracer(Hop())(batch)
    assert batch.timestamps == [(TIMESTAMP_CREATE, n) for n in (5, 6, 7)]
    assert [dict(batch.header(place))["source_timestamp"] for place in range(3)] == [b"90", b"90", b"91"]


def test_timestamp_from_invents_no_time_at_the_source():
    batch = Batch([b"5"], topics=["s"], partitions=[0], offsets=[3])
    run_steps(batch, Step("timestamp-from", "."))
    Tracer(Hop())(batch)
    assert "source_timestamp" not in dict(batch.header(0))


def test_timestamp_from_wants_a_path():
    with pytest.raises(UsageError, match="--timestamp-from"):
        build([Step("timestamp-from", "a..b")])
