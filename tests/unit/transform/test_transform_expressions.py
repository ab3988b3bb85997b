from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transforming import run_steps

from kpipe.errors import Stage, UsageError
from kpipe.record import TIMESTAMP_CREATE, Batch
from kpipe.transform import expressions
from kpipe.transform.chain import Step, build
from kpipe.transform.route import clusters_in
from kpipe.transform.split import COLUMNS

ALLOW = Step("route-allow", "*")


def batch_of(*values, **columns):
    return Batch(list(values), **columns)


def whats(batch):
    return [bad.error.what for bad in batch.bad]


def test_filter():
    batch = run_steps(batch_of(b'{"a":1}', b'{"a":0}', b'{"a":null}', b"{}"), Step("filter", ".a != null and .a > 0"))
    assert batch.values == [b'{"a":1}']
    assert batch.index == [0]
    assert not batch.bad


def test_filter_leaves_the_bytes_of_what_it_keeps():
    value = b'{ "a" : 1.10 , "\\u0061" : 1e400 }'
    assert run_steps(batch_of(value), Step("filter", "true or .")).values == [value]


def test_map_keeps_number_text_and_order():
    value = b'{"z":1.10,"big":123456789012345678901234567890,"i":9007199254740993,"a":-0}'
    batch = run_steps(batch_of(value), Step("map", ". + {n: 1}"))
    assert batch.values == [value[:-1] + b',"n":1}']


def test_map_results_are_json_and_null_is_no_tombstone():
    batch = run_steps(batch_of(b'{"s":"x"}', b'{"s":null}'), Step("map", ".s | ."))
    assert batch.values == [b'"x"', b"null"]
    assert run_steps(batch_of(b'{"s":"x"}', b'{"s":null}'), Step("map", ".s")).values == [b'"x"', b"null"]


@pytest.mark.parametrize("text", [".s", ".s | ."])
def test_map_raw(text):
    batch = run_steps(batch_of(b'{"s":"x\\ny"}', b'{"s":[1.0]}', b'{"s":""}', b"{}"), Step("map-raw", text))
    assert batch.values == [b"x\ny", b"[1.0]", b"", b"null"]


@pytest.mark.parametrize("text", [".k", ".k | ."])
def test_map_key(text):
    batch = run_steps(
        batch_of(b'{"k":"x"}', b'{"k":1.0}', b"{}", b'{"k":""}', b'{"k":{"a": 1}}'), Step("map-key", text)
    )
    assert batch.keys == [b"x", b"1.0", None, b"", b'{"a":1}']


def test_map_header():
    batch = run_steps(
        batch_of(b'{"k":"x"}', b"{}", headers=[[("a", b"1"), ("h", b"2")], None]), Step("map-header", "h=.k")
    )
    assert batch.headers == [[("a", b"1"), ("h", b"x")], [("h", None)]]


def test_meta():
    batch = batch_of(
        b"1",
        b"2",
        keys=[b"k", b"\xff"],
        headers=[[("a", b"1"), ("a", b"2"), ("n", None)], None],
        timestamps=[(TIMESTAMP_CREATE, 5), (0, -1)],
        topics=["t", "t"],
        partitions=[3, 3],
        offsets=[7, 8],
    )
    run_steps(batch, Step("map", "[., $meta]"))
    first, second = (json.loads(value) for value in batch.values)
    assert first == [
        1,
        {
            "topic": "t",
            "partition": 3,
            "offset": 7,
            "timestamp": 5,
            "timestamp_type": "create",
            "tombstone": False,
            "key": "k",
            "headers": [["a", "1"], ["a", "2"], ["n", None]],
            "header": {"a": "2", "n": None},
        },
    ]
    assert second[1]["key"] == {"base64": "/w=="}
    assert second[1]["timestamp"] is None


def test_meta_of_lines_is_null():
    assert run_steps(batch_of(b"1"), Step("map", "[$meta.topic, $meta.key, $meta.header]")).values == [
        b"[null,null,{}]"
    ]


def test_meta_shows_what_earlier_transforms_made():
    batch = run_steps(
        batch_of(b'{"id":5}'),
        Step("map-key", '"k\\(.id)"'),
        Step("map-header", "h=.id + 1"),
        Step("map", "{k: $meta.key, h: $meta.header.h}"),
    )
    assert batch.values == [b'{"k":"k5","h":"6"}']


def test_tombstones_are_null_to_expressions_and_stay():
    tombstones = batch_of(None, keys=[b"k"])
    run_steps(
        tombstones, Step("map", "{a: 1}"), Step("map-raw", "1 | tostring"), Step("split", "1, 2"), Step("map", ".a")
    )
    assert tombstones.values == [None]
    assert run_steps(batch_of(None, b"1"), Step("filter", ". == null")).values == [None]
    assert run_steps(batch_of(None, b"null"), Step("filter", "$meta.tombstone")).values == [None]
    assert run_steps(batch_of(None), Step("map-key", '"x"')).keys == [b"x"]


@pytest.mark.parametrize("text", [".id", ".id | ."])
def test_a_tombstone_does_not_lose_its_key(text):
    batch = run_steps(batch_of(None, b"{}", keys=[b"k", b"k"]), Step("map-key", text))
    assert batch.keys == [None]
    assert "deletes nothing without a key" in whats(batch)[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("empty", "no result"),
        ("1, 2", "more than one result"),
        ("halt", "halt is not for records"),
        ("halt_error", "halt_error is not for records"),
        ('"x" | halt_error(3)', "halt_error is not for records"),
        ("input", "input is not for records"),
        ("[inputs]", "inputs is not for records"),
        ('"a" | modulemeta', "modulemeta is not for records"),
        ('error("my own")', "my own"),
        ("error({a: 1})", '{"a":1}'),
        ("error(null)", "null"),
        (".a.b", "Cannot index number"),
        (".a | .b", "Cannot index number"),
        ("first(empty)", "no result"),
        ('("x" * 5000) | error', "xxxx"),
        ("range(1e9)", "more than one"),
    ],
)
@pytest.mark.parametrize("name", ["filter", "map", "map-key", "dedupe"])
def test_jq_swallows_nothing(name, text, message):
    if text == ".a.b":
        message = "needs an object and finds a number"
    batch = run_steps(batch_of(b'{"a":1}', file="in", lines=[9]), Step("drop-key"), Step(name, text))
    assert len(batch) == 0
    (bad,) = batch.bad
    assert message in bad.error.what
    assert bad.error.what.startswith(f"--{name} ")
    assert bad.error.where == "in:9"
    assert bad.error.stage is Stage.TRANSFORM
    assert len(bad.error.what) < 450
    assert "\n" not in bad.error.what


def test_the_step_that_failed_is_named_in_a_fused_program():
    steps = [Step("filter", ".a > 0"), Step("map", "{b: .a}"), Step("map-key", ".b | error"), Step("map", ".b | .")]
    assert len(build(steps)) == 1
    batch = run_steps(batch_of(b'{"a":0}', b'{"a":"x"}'), *steps)
    assert len(batch.bad) == 1
    assert whats(batch)[0].startswith("--map-key .b | error: x; ")


@pytest.mark.parametrize("text", [".a", ".a | ."])
@pytest.mark.parametrize("value", [b"", b"{} {}", b"NaN", b"[1,]", b"\xef\xbb\xbf1", b'"\xff"', b"01"])
def test_what_is_not_json_is_bad_on_every_way(text, value):
    batch = run_steps(batch_of(value, b"{}"), Step("map", text))
    assert batch.values == [b"null"]
    assert "not JSON" in whats(batch)[0] or "not UTF-8" in whats(batch)[0]


@pytest.mark.parametrize(
    ("step", "advice"),
    [
        (Step("map", ""), r"write \. for the value"),
        (Step("map", "."), None),
        (Step("map", ". # comment"), None),
        (Step("map", "# comment"), "not a jq program"),
        (Step("map", ".a) , (.b"), "not a jq program"),
        (Step("filter", ".a ="), r"--filter \.a =: not a jq program \(.*\); try it with jq first"),
        (Step("map", 'import "m" as m; .'), "leave out import"),
        (Step("map", 'include "m"; .'), "leave out import"),
        (Step("map", "$v"), r"\$v is not defined"),
        (Step("map", "def f: 1; f"), None),
        (Step("map", "nonsense"), "nonsense/0 is not defined"),
        (Step("map-header", ".a"), "write NAME=JQ"),
        (Step("dedupe", "("), "not a jq program"),
        (Step("split", "("), "not a jq program"),
    ],
)
def test_programs_are_checked_at_the_start(step, advice):
    if advice is None:
        assert build([step])
    else:
        with pytest.raises(UsageError, match=advice):
            build([step])


def test_neighbours_are_fused_where_they_can_be():
    def count(*steps):
        return len(build([*steps, ALLOW]))

    assert count(Step("filter", ".a > 1"), Step("map", "{a}"), Step("map-key", "[.a]"), Step("route", '"x\\(.a)"')) == 1
    assert count(Step("map", "{a}"), Step("map-key", ".a"), Step("map", "[.]")) == 1
    assert count(Step("filter", ".a"), Step("map", "{a}"), Step("map-key", ".a")) == 3
    assert count(Step("map", "{a}"), Step("drop-key"), Step("map", "{a}")) == 3
    assert count(Step("map-raw", ".a | ."), Step("map", "{a}")) == 2
    assert count(Step("map-key", "[.]"), Step("map", "[$meta.key]")) == 2
    assert count(Step("map", "[.]"), Step("map", "[$meta.key]")) == 1
    assert count(Step("map", "[.]"), Step("split", ".[]"), Step("dedupe", "[.]"), Step("map", "[.]")) == 4


def test_a_fused_chain_sees_each_result():
    batch = run_steps(
        batch_of(b'{"n":1}', b'{"n":5}', None, keys=[b"k"] * 3, headers=[None, [("a", b"b")], None]),
        *(Step("map", "{m: (.n * 2)}"), Step("filter", ". == null or .m > 2"), Step("map-key", ".m // 0")),
        *(Step("map-header", "h=.m"), Step("map", "[.m]"), Step("route", 'if . then "t\\(.[0])" else null end')),
        ALLOW,
    )
    assert batch.values == [b"[10]", None]
    assert batch.keys == [b"10", b"0"]
    assert batch.headers == [[("a", b"b"), ("h", b"10")], [("h", None)]]
    assert batch.targets == ["t10", None]
    assert batch.index == [1, 2]


def test_split():
    batch = batch_of(
        b'{"i":[1.0,"b"]}',
        b'{"i":[]}',
        None,
        b'{"i":3}',
        b'{"i":[4]}',
        keys=[b"a", b"b", b"c", b"d", b"e"],
        headers=[None, [], [("x", b"")], None, None],
        topics=["t"] * 5,
        partitions=[0] * 5,
        offsets=[0, 1, 2, 3, 4],
        timestamps=[(0, -1)] * 5,
    )
    run_steps(batch, Step("split", ".i[]"), Step("map-key", "."))
    assert batch.values == [b"1.0", b'"b"', b"4"]
    assert batch.keys == [b"1.0", b"b", b"4"]
    assert batch.index == [0, 0, 4]
    assert batch.offsets == [0, 0, 4]
    assert [bad.index for bad in batch.bad] == [3, 2]
    assert "Cannot iterate over number" in whats(batch)[0]
    assert batch.bad[0].error.where == "t[0]@3"


def test_split_spreads_every_column_there_is():
    assert {*COLUMNS, "values", "index", "bad", "cluster", "file", "read"} == set(Batch.__slots__)


def test_records_made_by_split_may_be_filtered_one_by_one():
    batch = run_steps(batch_of(b"[1,2,3]", b"[4]"), Step("split", ".[]"), Step("filter", ". % 2 == 0"))
    assert batch.values == [b"2", b"4"]
    assert batch.index == [0, 1]


def test_route():
    steps = [Step("route", ".t | ."), Step("route-allow", "orders-*"), Step("route-allow", "x")]
    batch = run_steps(
        batch_of(*(b'{"t":%b}' % t for t in (b'"orders-de"', b'"x"', b"null", b'"y"', b"1", b'"orders-/"'))), *steps
    )
    assert batch.targets == ["orders-de", "x", None]
    reasons = {bad.index: bad.error.what for bad in batch.bad}
    assert "'y' is not allowed (--route-allow orders-*, x)" in reasons[3]
    assert "it gives a number, not the name of a topic" in reasons[4]
    assert "is no topic name" in reasons[5]


def test_route_by_path_keeps_an_earlier_target():
    batch = run_steps(
        batch_of(b'{"a":"x"}', b'{"b":"y","a":"x"}', b'{"a":[]}'), Step("route", ".a"), Step("route", ".b"), ALLOW
    )
    assert batch.targets == ["x", "y"]
    assert "no string" in whats(batch)[0]


def test_a_route_names_a_cluster_only_where_one_is_allowed():
    steps = [Step("route", ".t"), Step("route-allow", "eu:orders-*"), Step("route-allow", "*-eu")]
    batch = batch_of(
        *(f'{{"t":"{place}"}}'.encode() for place in ("eu:orders-1", "us:orders-1", "orders-eu", "eu:orders-eu", "eu:x-eu")),
        b'{"t":"eu:orders-1:2"}', b'{"t":":orders-eu"}', b'{"t":"eu:"}', b'{"t":"orders-1"}', b'{"t":"eu:orders-/"}',
    )  # fmt: skip
    run_steps(batch, *steps)
    assert batch.targets == ["eu:orders-1", "orders-eu", "eu:orders-eu"]
    reasons = {bad.index: bad.error.what for bad in batch.bad}
    assert sorted(reasons) == [1, 4, 5, 6, 7, 8, 9]
    assert "'us:orders-1' is not allowed (--route-allow eu:orders-*, *-eu)" in reasons[1]
    assert "is no topic name" in reasons[5]
    assert "is no topic name" in reasons[9]


def test_a_cluster_is_allowed_by_its_name_only():
    for allow in ("*:x", ":x", "e?:x", "-:x", "[eu]:x"):
        with pytest.raises(UsageError, match=r"cannot name a cluster; write CLUSTER:GLOB"):
            build([Step("route", ".a"), Step("route-allow", allow)])
    steps = [Step("route-allow", place) for place in ("eu:a", "b", "us:c*", "eu:d")]
    assert clusters_in([Step("route", ".a"), *steps]) == ["eu", "us"]
    assert clusters_in(steps) == []


def test_renaming_keeps_the_cluster_of_a_route():
    batch = batch_of(b'{"t":"eu:a"}', b'{"t":"a"}', b'{"t":null}')
    batch.topics = ["s"] * 3
    allow = (Step("route-allow", "eu:*"), Step("route-allow", "*"))
    run_steps(batch, Step("route", ".t"), Step("rename-topic", "^(.*)$=copy.\\1"), *allow)
    assert batch.targets == ["eu:copy.a", "copy.a", "copy.s"]


def test_route_needs_to_be_allowed():
    with pytest.raises(UsageError, match=r"--route \.a: no topic is allowed yet; add --route-allow GLOB"):
        build([Step("route", ".a")])


def test_dedupe():
    values = [b'{"id":1}', b'{"id":2}', b'{"id":1}', b"{}", b"{}", None, None, b'{"id":"1"}']
    for text in (".id", ".id | ."):
        assert run_steps(batch_of(*values), Step("dedupe", text)).index == [0, 1, 3, 4, 5, 6, 7]


def test_dedupe_remembers_over_batches_and_forgets_beyond_its_window():
    (stage,) = build([Step("dedupe", "."), Step("dedupe-window", "2")])

    def kept(*values):
        batch = batch_of(*values)
        stage(batch)
        return batch.values

    assert kept(b"1", b"2") == [b"1", b"2"]
    assert kept(b"1") == []  # and is now the latest
    assert kept(b"3") == [b"3"]
    assert kept(b"1") == []
    assert kept(b"2") == [b"2"]


def test_dedupe_lets_a_record_that_is_read_again_through():
    (stage,) = build([Step("dedupe", ".")])

    def kept(offset, **columns):
        batch = batch_of(b"1", topics=["t"], partitions=[0], offsets=[offset], **columns)
        stage(batch)
        return len(batch)

    assert [kept(5), kept(6), kept(5), kept(6)] == [1, 0, 1, 0]
    assert kept(5, file="dump", lines=[1]) == 0


def test_dedupe_of_what_a_split_made():
    steps = [Step("split", ".[]"), Step("dedupe", ".")]
    batch = batch_of(b"[1,1,2]", topics=["t"], partitions=[0], offsets=[0])
    assert run_steps(batch, *steps).values == [b"1", b"2"]


@pytest.mark.parametrize("text", ["0", "x", "-1", "1.5", ""])
def test_dedupe_window(text):
    with pytest.raises(UsageError, match=r"--dedupe-window .*write a positive integer"):
        build([Step("dedupe", "."), Step("dedupe-window", text)])


json_texts = st.recursive(
    st.sampled_from(
        ["null", "true", "false", '"x"', '""', '"é\\n"', "1.10", "-0", "0", "7", "1" * 25, "9007199254740993"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")
        | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2).map(
            lambda items: "{" + ", ".join(f'"{name}": {item}' for name, item in items.items()) + "}"
        )
    ),
    max_leaves=6,
)
PATHS = [".", ".a", ".b.a", ".[0]", ".a[-1]", '."a".b']


@settings(max_examples=60)
@given(st.lists(st.none() | json_texts, max_size=4), st.sampled_from(PATHS), st.data())
def test_the_fast_path_does_what_jq_does(texts, path, data):
    name = data.draw(st.sampled_from(["filter", "map", "map-raw", "map-key", "map-header", "route", "dedupe"]))
    prefix = "h=" if name == "map-header" else ""
    values = [None if text is None else text.encode() for text in texts]
    results = []
    for program in (path, f"{path} | ."):
        assert (expressions.parse_jq(program) is None) == program.endswith("| .")
        batch = batch_of(*values, keys=[b"k"] * len(values))
        run_steps(batch, Step(name, prefix + program), ALLOW)
        results.append(
            (
                batch.values,
                batch.keys,
                batch.headers,
                batch.targets or [],
                list(batch.index or []),
                sorted(bad.index for bad in batch.bad),
            )
        )
    fast, slow = results
    if name == "map":
        for one, other in zip(fast[0], slow[0], strict=True):
            assert one == other or json.loads(one, parse_float=Decimal) == json.loads(other, parse_float=Decimal)
    else:
        assert _without_empty(fast) == _without_empty(slow)


def _without_empty(result):
    return [part or None for part in result]
