package cel_test

// seeds are expressions whose value, error or refusal is compared with cel-go's.
var seeds = []string{
	// what people write
	`event.type == "com.dapr.event.sent"`,
	`event.data.amount > 100`,
	`event.data.amount >= 150.0 && event.source == 'orders'`,
	`event.topic.startsWith("new-") || event.topic.endsWith("-old")`,
	`event.data.name.contains("é")`, `event.data.name.matches("^A.n")`, `matches(event.id, "e[0-9]")`,
	`has(event.data.nested.deep)`, `has(event.data.missing) && event.data.missing == 1`, `!has(event.data.missing)`,
	`event.data.missing == 1`, `event.data.missing == 1 || true`, `true || event.data.missing == 1`, `event.data.missing && false`,
	`"a" in event.data.tags`, `3 in event.data.tags`, `null in event.data.tags`, `"amount" in event.data`, `1 in event.data`,
	`event.type in ["x", "com.dapr.event.sent"]`, `event["type"] == event.type`, `event.data["amount"] == 150`,
	`size(event.data.tags) == 4`, `event.data.name.size()`, `size(event.data)`, `event.data.tags[1]`, `event.data.tags[9]`, `event.data.tags[-1]`,
	`event.data.items.exists(i, i.price > 10)`, `event.data.items.all(i, i.price > 10)`, `event.data.items.exists_one(i, i.sku == "x")`,
	`event.data.items.filter(i, i.price > 10)`, `event.data.items.map(i, i.price * 2.0)`, `event.data.items.map(i, i.price > 10, i.sku)`,
	`event.data.amount > 100 ? "big" : "small"`, `event.data.none == null`, `event.data.ratio < 1`, `event.data.zero == 0u`,
	`int(event.data.amount) % 7 == 3`, `string(event.data.amount)`, `double("1e3") == 1000`, `timestamp(event.time) > timestamp("2020-01-01T00:00:00Z")`,
	`type(event.data.amount) == double`, `type(event.data) == map`, `event.data.nested.deep.x`, `event`, `event == event`,
	// numbers
	`1 + 2 * 3 - 4 / 3 % 2`, `1.5 + 2.5`, `7u / 2u`, `1 / 0`, `1 % 0`, `1u / 0u`, `1.0 / 0.0`, `0.0 / 0.0 == 0.0 / 0.0`, `0.0/0.0 < 1.0`, `-0.0`,
	`9223372036854775807 + 1`, `-9223372036854775808 - 1`, `-9223372036854775808`, `9223372036854775808`, `-(-9223372036854775808)`, `--5`, `---5`, `- - 5`,
	`18446744073709551615u + 1u`, `1u - 2u`, `9223372036854775807 * 2`, `-9223372036854775808 / -1`, `-9223372036854775808 % -1`, `0x1F`, `0x1Fu`, `-0x10`, `0xg`,
	`1e3`, `.5`, `1.`, `1.e3`, `1e`, `1.5e-3`, `1.5.5`, `1uu`, `01`, `1_000`, `1 == 1.0`, `dyn(1) == 1.0`, `dyn(1) == 1u`, `dyn(1u) < 2`, `dyn(1.5) > 1`, `dyn(-1) < 1u`,
	`dyn(18446744073709551615u) > 9223372036854775807`, `dyn(9223372036854775807) == 9223372036854775807.0`, `dyn(1e20) > 1`, `dyn(-1e20) < 1u`, `1 < 2 == true`, `1 < 2 < 3`,
	`-event.data.neg`, `-event.type`, `-"a"`, `-true`, `-1.5`, `!true`, `!!true`, `!1`, `!event.type`, `-1u`, `-event.data.amount.x`,
	`event.data.amount + 1`, `event.data.amount + 1.0`, `event.data.big == 9007199254740993`, `event.data.amount == event.data.amount`,
	// strings, bytes
	`"a" + 'b'`, `"a" < "b"`, `"a" < 1`, `b"a" + b"b"`, `b'\xff'`, `"\xff"`, `"\u00e9" == "é"`, `b"\u00e9"`, `"\U0001F600".size()`, `"\U00110000"`, `"\ud800"`, `"\377"`, `b"\377"`, `"\400"`, `"\q"`,
	`"""a"b""" == 'a"b'`, `'''a
b'''`, `"a
b"`, `r"\n"`, `br"\n"`, `R'a\'`, `rb"a"`, `""`, `''`, `""""""`, `r""`, `"\"\'\\\?` + "\\`" + `\a\b\f\n\r\t\v"`, `"\x4g"`, `"é".size()`, `b"é".size()`, `"abc"[0]`, `"abc".x`,
	`"abc".contains("b")`, `"abc".contains(1)`, `"a".matches("[")`, `"a".matches(event.type + "[")`, `"abc".matches("b")`, `"a".matches("(?i)A")`, `contains("a", "b")`, `"a".size(1)`, `size("a", "b")`,
	"\"a\r\nb\"", "'''a\r\nb\rc'''", `"a" "b"`, `"a`, `'a"`, `"a\"`,
	// lists, maps
	`[]`, `[1, 2,]`, `[,]`, `[1,,2]`, `[1] + [2, "x"]`, `[1, 2][0]`, `[1, 2][1.0]`, `[1, 2][1u]`, `[1, 2][0.5]`, `[1, 2][dyn(1.0)]`, `[1, 2][dyn(0.5)]`, `[1, 2]["a"]`, `[1, 2][dyn("a")]`, `[1][true]`,
	`[1] == [1.0]`, `[1] == [dyn(1.0)]`, `[[1], []] == [[1], []]`, `[] == [1]`, `1 in [1.0]`, `dyn(1) in [1.0]`, `1 in []`, `[1] in [[1]]`, `"a" in "abc"`, `dyn("a") in dyn("abc")`,
	`{}`, `{"a": 1,}`, `{,}`, `{"a": 1}.a`, `{"a": 1}.b`, `{"a": 1}["a"]`, `{1: "x"}[1]`, `{1: "x"}[dyn(1.0)]`, `{1u: "x"}[dyn(1)]`, `{1: "x"}[dyn(1u)]`, `{1.5: "x"}[1.5]`, `{true: 1}[true]`, `{null: 1}`, `{null: 1}[null]`,
	`{b"a": 1}`, `{[1]: 2}`, `{[1]: 2}.size()`, `{"a": 1, "a": 2}`, `{"a": 1} == {"a": dyn(1.0)}`, `{"a": 1, 2: "b"}`, `"a" in {"a": 1}`, `dyn(b"a") in {"a": 1}`, `dyn(b"a") in {}`, `dyn(1.0) in {1: 2}`, `{"a": 1}.size()`,
	`has({"a": 1}.a)`, `has({"a": 1}.b)`, `event.data == {"x": 1}`, `event.data.empty == {}`, `{} == event.data.empty`, `{"x": true} == event.data.nested.deep`, `event.data.tags == ["a", "b", 3.0, null]`,
	`event[null]`, `event[event.data.none]`, `event[b"a"]`, `event[[]]`, `event[1]`, `event[true]`, `event.data.tags[event.data.zero]`, `event.data.tags["x"]`, `event.data.tags.x`, `has(event.data.tags.x)`, `has(event.data.amount.x)`,
	`has(event.data.none.x)`, `has(event.missing.x)`, `has(event)`, `has(event["a"])`, `has(event.a, event.b)`, `has()`, `has(has(event.a))`, `has((true ? event : event).id)`,
	// macros
	`[1, 2].all(x, x > 0)`, `[1, 2].all(x, x > 1)`, `[].all(x, false)`, `[1, "a"].all(x, x > 0)`, `[0, "a"].all(x, x > 0)`, `["a", 0].all(x, x > 0)`, `["a", 1].exists(x, x > 0)`, `["a", 0].exists(x, x > 0)`,
	`[1, 1].exists_one(x, x == 1)`, `[1, 2].exists_one(x, x == 1)`, `[1, 2].existsOne(x, x == 1)`, `[1, dyn("a")].exists_one(x, x > 0)`, `[1].all(x, 1)`, `[dyn(1)].all(x, x)`, `[1].exists_one(x, dyn(1))`, `[].exists_one(x, dyn(1))`,
	`{"a": 1}.all(k, k == "a")`, `{"a": 1}.map(k, k + "b")`, `event.all(k, k != "")`, `event.data.tags.map(x, x)`, `event.id.map(x, x)`, `1.map(x, x)`, `"ab".all(x, true)`, `[1].map(1, 2)`, `[1].map(x.y, 2)`, `[1].map(x)`,
	`[1, 2].map(x, [3, 4].map(y, x * y))`, `[1].map(event, event + 1)`, `[1].map(x, event.id + string(x))`, `[[1]].map(x, x.map(x, x + 1))`, `[1].map(x, x).map(y, y + x)`, `[1].map(x, true, x)`, `[1].map(x, 1, x)`, `[1, 2].map(x, x > 1, x)`,
	`[1, 2].filter(x, x > 1)`, `[1].filter(x, 1)`, `[1, 2].filter(x, dyn(x) / 0 > 1)`, `[1].map(int, int + 1)`, `[1].all(__result__, true)`, `[1].filter(__result__, true)`, `[1, "a"].map(x, x)`, `[1].map(x, x)[0] + 1`, `[[]].map(x, x + [1])`,
	// logic
	`true && false || true`, `true && 1`, `true || 1`, `1 && false`, `dyn(1) && false`, `dyn(1) || true`, `dyn(1) && true`, `dyn(1) || false`, `event.x && event.y`, `event.x || event.y || true`, `(1 / 0 == 1) || true`, `(1 / 0 == 1) && false`,
	`true ? 1 : 2`, `true ? 1 : "a"`, `dyn(1) ? 1 : 2`, `event.x ? 1 : 2`, `true ? event.x : 1`, `false ? event.x : 1`, `true ? false ? 1 : 2 : 3`, `true ? (false ? 1 : 2) : 3`, `false ? 1 : true ? 2 : 3`, `(true ? event : event).id`, `(false ? {"a": 1} : {"a": 2}).a`,
	`null == null`, `null == 1`, `dyn(null) == 1`, `1 != dyn(null)`, `null < null`, `dyn(null) < dyn(null)`, `true < false`, `false < true`, `[1] < [2]`, `dyn([1]) < dyn([2])`, `dyn([]) < 0.0/0.0`, `"a" < dyn(0.0/0.0)`, `dyn(0.0/0.0) < dyn("a")`,
	// types, conversions
	`type(1)`, `type(type(1))`, `type(1) == int`, `int`, `int == int`, `int == string`, `type([]) == list`, `type({}) == map`, `type(null) == null_type`, `type(b"") == bytes`, `type(1u) == uint`, `type(dyn(1)) == type(1)`, `type(event) == type({})`, `dyn`, `bool`, `list`, `type`, `double`,
	`int("5")`, `int(" 5")`, `int("0x5")`, `int(5.9)`, `int(-5.9)`, `int(1e30)`, `int(0.0/0.0)`, `int(9223372036854775807.0)`, `int(5u)`, `int(18446744073709551615u)`, `int(true)`, `int(dyn(true))`, `int(null)`, `int(dyn(null))`, `int()`, `int(1, 2)`,
	`uint(5)`, `uint(-5)`, `uint("5")`, `uint(5.9)`, `uint(-0.5)`, `uint(1.8446744073709552e19)`, `double("x")`, `double("inf")`, `double("0x1p3")`, `double("1_0")`, `double(5)`, `double(5u)`, `bool("true")`, `bool("T")`, `bool("yes")`, `bool(1)`,
	`string(1.0)`, `string(1e30)`, `string(1.5e-7)`, `string(true)`, `string(null)`, `string(dyn(null))`, `string(b"a")`, `string(b"\xff")`, `string([1])`, `string(dyn([1]))`, `string(1u)`, `string(-5)`, `bytes("é")`, `bytes(1)`, `dyn(dyn(1))`, `string(0.0/0.0)`, `string(-1.0/0.0)`,
	`duration("1h30m")`, `duration("1.5s")`, `duration("x")`, `duration(5)`, `string(duration("90m"))`, `int(duration("1s"))`, `duration("1h") + duration("1m")`, `duration("1h") > duration("1m")`, `-duration("1h")`, `-dyn(duration("1h"))`, `duration("1h") == null`, `duration("1h") * 2`,
	`timestamp("2026-01-02T03:04:05Z")`, `timestamp("2026-01-02T03:04:05.5+02:00")`, `timestamp("2026-01-02 03:04:05Z")`, `timestamp("2026-01-02t03:04:05z")`, `timestamp("2026-01-02T3:04:05Z")`, `timestamp("2026-01-02T03:04:05,5Z")`, `timestamp("2026-01-02T03:04:05+24:00")`, `timestamp("2026-01-02T03:04:05+23:60")`,
	`timestamp("2026-02-30T03:04:05Z")`, `timestamp("2016-12-31T23:59:60Z")`, `timestamp("0000-01-01T00:00:00Z")`, `timestamp("0001-01-01T00:00:00Z")`, `timestamp("0001-01-01T00:00:00+01:00")`, `timestamp(0)`, `timestamp(253402300800)`, `timestamp(-62135596801)`, `timestamp(1.5)`, `int(timestamp(5))`, `string(timestamp(5))`,
	`timestamp(5) + duration("1s")`, `duration("1s") + timestamp(5)`, `timestamp(5) - duration("1s")`, `timestamp(5) - timestamp(3)`, `duration("1s") - timestamp(3)`, `timestamp(5) == timestamp("1970-01-01T01:00:05+01:00")`, `timestamp(253402300799) + duration("1s")`, `timestamp(253402300799) - timestamp(-62135596800)`,
	`timestamp(5) < timestamp(6)`, `timestamp(5) == null`, `timestamp(5) + 1`, `type(timestamp(5))`, `type(duration("1s")) == type(duration("2s"))`, `timestamp(5).getFullYear()`, `timestamp(5) in [timestamp(5)]`, `{timestamp(5): 1}`, `duration("-2562047h47m16.854775808s")`,
	// what the checker has settled
	`string(event["id"])`, `string(event["n"])`, `string(event.data["amount"])`, `int(event["data"]["amount"])`, `string(event[event.id])`, `event["data"] + 1`, `[event["id"]].map(x, string(x))`, `string([][0])`, `dyn(event["data"])`, `event[string]`, `event[type(1)]`, `[1].map(int, [1, 2][int])`, `type(event["data"])`,
	// syntax
	``, ` `, `(`, `)`, `()`, `1 +`, `+ 1`, `1 1`, `event.`, `event..id`, `event.1`, `event.in`, `event.true`, `event.null`, `event.if`, `if`, `in`, `null`, `true`, `event.id // comment`, `// only`, "1 // c\n + 2", `a`, `a.b`, `a()`, `event.a()`, `event.id.foo(1)`, `.event`, `.event.id`,
	`event.?id`, `event[?"id"]`, `[?1]`, `{?"a": 1}`, "event.`id`", "`event`", `event{}`, `a.b{c: 1}`, `Foo{}`, `event.id.int()`, `event.int(1)`, `@`, `#`, `1 = 1`, `1 === 1`, `1 & 1`, `1 | 1`, `1 <> 2`, `event.id;`, `é`, `"é"`, `event.é`, "\v1", "\f1", "\u00a01", "\ufeff1", `a ? b`, `a ? b : `, `1 ? 2 : 3`, `a :: b`, `1..2`, `1...2`, `size(event.data.tags) > 2 ? true : false`,
	`event.google.protobuf`, `google.protobuf.Timestamp`, `type(timestamp(0)) == google.protobuf.Timestamp`, `_event`, `__result__`, `event.__result__`, `-event`, `!event`, `event + event`, `event < event`, `event in event`, `event[event]`, `event ? 1 : 2`,
	`_==_(1, 1)`, `size.size()`, `has.a`, `all`, `event.map`, `event.has`, `event.all`, `[1].all(x, x > 0, x)`, `{"has": 1}.has`, `{'a': {'b': 1}}.a.b`, `[[1, 2], [3]][0][1]`, `!(1 == 2)`, `! true`, `!-1`, `-!true`, `(1)`, `((1))`, `1-1`, `1 -1`, `1- 1`, `1--1`, `1 - -1`, `a-1`, `2-1u`,
}
