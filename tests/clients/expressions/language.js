// The language as its documentation has it, case by case: what an expression is worth, or REFUSED where it cannot be read or has no value.
// Written for appm; `conformance.js` asks both readers.

export const REFUSED = Symbol("refused");

/** What the cases may read. */
export const CONTEXTS = {
  github: { ref: "refs/heads/main", event: { commits: [{ id: 1, by: { name: "Ann" } }, { id: 2 }, { id: null, by: { name: "Bo" } }] } },
  needs: { build: { result: "success", outputs: { digest: "abc", flag: "false", "with-dash": "d" } }, test: { result: "failure", outputs: {} } },
  matrix: { os: ["linux", "Mac"], nested: [[1, 2], [3]], none: [], map: { a: { v: 1 }, b: { v: 2 } } },
  inputs: { text: "Hello", zero: 0, no: false, yes: true, nothing: null, empty: "", number: 12.5, list: "[1,2]" },
};

const LONGEST = 21000;
const nested = depth => "(".repeat(depth) + "1" + ")".repeat(depth);

export const CASES = {
  "literals": [
    ["null", null], ["true", true], ["false", false], ["TRUE", REFUSED], ["0", 0], ["-0", 0], ["711", 711], ["-9.2", -9.2], ["+3", 3], [".5", 0.5], ["5.", 5],
    ["0xff", 255], ["0xFF", 255], ["0o17", 15], ["1e3", 1000], ["-2.99e-2", -0.0299], ["1E2", 100], ["Infinity", Infinity], ["-Infinity", -Infinity], ["NaN", NaN],
    ["''", ""], ["'Mona'", "Mona"], ["'It''s'", "It's"], ["''''", "'"], ["' a '", " a "], ['"a"', REFUSED], ["'a", REFUSED], ["a'", REFUSED],
    ["0x", REFUSED], ["0xfg", REFUSED], ["0o8", REFUSED], ["1.2.3", REFUSED], ["1e", REFUSED], ["1x", REFUSED], ["--1", REFUSED], ["", REFUSED], ["   ", REFUSED],
  ],
  "what is no word of the language": [
    ["1 + 1", REFUSED], ["5 % 2", REFUSED], ["2 * 2", REFUSED], ["6 / 2", REFUSED], ["1 - 1", REFUSED], ["1 = 1", REFUSED], ["true & true", REFUSED],
    ["true | true", REFUSED], ["true and true", REFUSED], ["not true", REFUSED], ["1 <> 2", REFUSED], ["a ? b : c", REFUSED], ["1;", REFUSED], ["1 1", REFUSED],
    ["nobody", REFUSED], ["nobody.x", REFUSED], ["nothing()", REFUSED], ["(1", REFUSED], ["1)", REFUSED], ["()", REFUSED], ["!", REFUSED], ["== 1", REFUSED],
    ["1 ==", REFUSED], ["&& true", REFUSED], ["inputs.", REFUSED], ["inputs[", REFUSED], ["inputs[]", REFUSED], ["inputs..text", REFUSED], ["inputs text", REFUSED],
    [".text", REFUSED], ["inputs.'text'", REFUSED], ["inputs.1", REFUSED], ["format", REFUSED], ["format(", REFUSED],
  ],
  "precedence": [
    ["true || false && false", true], ["(true || false) && false", false], ["false && false || true", true], ["1 == 1 && 2 == 2", true],
    ["1 < 2 == true", true], ["true == 1 < 2", true], ["1 == 2 < 3", true], ["2 > 1 != false", true], ["3 == 2 == false", true], ["3 == (2 == false)", false],
    ["1 < 2 < 3", true], ["3 > 2 > 1", false], ["1 != 2 == true", true], ["!true == false", true], ["!(true == false)", true], ["!true || true", true],
    ["!false && false", false], ["!!1", true], ["!!!1", false], ["! true", false], ["!inputs.no", true], ["!inputs['no']", true], ["!inputs.list[0]", true],
    ["1 == 1 == 1 == 1", true], ["false || false || 'x'", "x"], ["1 && 2 && 3", 3], ["(1)", 1], ["((((1))))", 1], ["inputs.zero || inputs.number", 12.5],
    ["inputs.yes && 'a' || 'b'", "a"], ["inputs.no && 'a' || 'b'", "b"], ["inputs.yes && '' || 'b'", "b"], ["1<2&&2<3", true], ["1\n==\t1\r\n", true],
  ],
  "truth": [
    ["!null", true], ["!false", true], ["!0", true], ["!-0", true], ["!NaN", true], ["!''", true], ["!true", false], ["!1", false], ["!-1", false], ["!Infinity", false],
    ["!'false'", false], ["!'0'", false], ["!' '", false], ["!matrix.none", false], ["!needs.test.outputs", false], ["!github", false], ["!inputs.absent", true],
    ["null || 'x'", "x"], ["0 || false", false], ["'' || null", null], ["NaN && 1", NaN], ["'a' && 'b'", "b"], ["null && 'b'", null], ["0 && 'b'", 0],
    ["false || ''", ""], ["needs.build.outputs.flag && 'set'", "set"], ["needs.build.outputs.flag == 'true'", false],
  ],
  "equality of kinds that differ": [
    ["null == 0", true], ["null == false", true], ["null == ''", true], ["null == 'null'", false], ["null == NaN", false], ["true == 1", true], ["true == 2", false],
    ["true == '1'", true], ["true == 'true'", false], ["'true' == true", false], ["false == 0", true], ["false == ''", true], ["false == 'false'", false], ["false == null", true],
    ["1 == '1'", true], ["1 == ' 1 '", true], ["1 == '1.0'", true], ["255 == '0xff'", true], ["8 == '0o10'", true], ["1000 == '1e3'", true], ["0 == ''", true], ["0 == ' '", true],
    ["1 == '1x'", false], ["1 == 'one'", false], ["NaN == 'x'", false], ["Infinity == 'Infinity'", true], ["0 == matrix.none", false], ["'' == matrix.none", false],
    ["null == matrix.none", false], ["'Array' == matrix.none", false], ["'Object' == inputs", false], ["1 == inputs", false], ["inputs == matrix.none", false],
    ["null != 0", false], ["'true' != true", true], ["inputs.absent == ''", true], ["inputs.absent == null", true], ["inputs.nothing == inputs.zero", true],
  ],
  "equality of one kind": [
    ["null == null", true], ["true == true", true], ["true == false", false], ["1 == 1.0", true], ["0 == -0", true], ["NaN == NaN", false], ["NaN != NaN", true],
    ["Infinity == Infinity", true], ["Infinity == -Infinity", false], ["'a' == 'a'", true], ["'a' == 'A'", true], ["'É' == 'é'", true], ["'a' == ' a'", false], ["'' == ''", true],
    ["'1' == '1.0'", false], ["'I' == 'i'", true], ["'İ' == 'i'", false], ["'ı' == 'I'", false],
    ["inputs == inputs", true], ["matrix.os == matrix.os", true], ["matrix.os == matrix.nested", false], ["fromJSON('[]') == fromJSON('[]')", false],
    ["fromJSON('{}') == fromJSON('{}')", false], ["matrix.os != fromJSON('[\"linux\",\"Mac\"]')", true],
  ],
  "order": [
    ["1 < 2", true], ["2 < 1", false], ["1 <= 1", true], ["1 >= 1", true], ["1 > 1", false], ["'a' < 'b'", true], ["'a' < 'B'", true], ["'A' < 'b'", true], ["'b' > 'A'", true],
    ["'a' <= 'A'", true], ["'a' >= 'A'", true], ["'10' < '9'", true], ["10 < '9'", false], ["'10' > 9", true], ["null < 1", true], ["null <= 0", true], ["null >= 0", true], ["null > -1", true],
    ["false < true", true], ["true > false", true], ["true >= 1", true], ["true < 2", true], ["NaN < 1", false], ["NaN > 1", false], ["NaN <= NaN", false], ["NaN >= NaN", false],
    ["1 < 'x'", false], ["1 > 'x'", false], ["1 >= 'x'", false], ["'x' < 1", false], ["matrix.os < 1", false], ["matrix.os > 1", false], ["inputs <= inputs", true], ["inputs < inputs", false],
    ["-Infinity < Infinity", true], ["'' < 'a'", true], ["'' < 1", true],
  ],
  "ways into values": [
    ["inputs.text", "Hello"], ["inputs['text']", "Hello"], ["inputs[ 'text' ]", "Hello"], ["INPUTS.TEXT", "Hello"], ["Inputs['TeXt']", "Hello"], ["inputs.absent", null],
    ["inputs.absent.more.still", null], ["inputs.text.more", null], ["inputs.number[0]", null], ["inputs[null]", null], ["inputs[0]", null], ["inputs[true]", null],
    ["needs.build.outputs.with-dash", "d"], ["needs['build'].outputs['with-dash']", "d"], ["needs.build['outputs'].digest", "abc"], ["needs[inputs.absent]", null],
    ["matrix.os[0]", "linux"], ["matrix.os[1]", "Mac"], ["matrix.os[2]", null], ["matrix.os[-1]", null], ["matrix.os[0.9]", "linux"], ["matrix.os[1.5]", "Mac"], ["matrix.os['1']", "Mac"],
    ["matrix.os['x']", null], ["matrix.os[null]", "linux"], ["matrix.os[true]", "Mac"], ["matrix.os[NaN]", null], ["matrix.os[Infinity]", null], ["matrix.os.length", null],
    ["matrix.nested[0][1]", 2], ["matrix.nested[1][0]", 3], ["matrix.os[inputs.zero]", "linux"], ["matrix [ 'os' ] [ 0 ]", "linux"], ["(matrix.os)[0]", "linux"],
    ["fromJSON('{\"a\":{\"b\":[1,2]}}').a.b[1]", 2], ["fromJSON(inputs.list)[0]", 1], ["github.event.commits[0].by.name", "Ann"], ["github.event.commits[1].by.name", null],
  ],
  "filters": [
    ["github.event.commits.*.id", [1, 2, null]], ["github.event.commits[*].id", [1, 2, null]], ["github.event.commits.*.by.name", ["Ann", "Bo"]], ["github.event.commits.*.absent", []],
    ["matrix.map.*.v", [1, 2]], ["needs.*.result", ["success", "failure"]], ["needs.*.outputs.digest", ["abc"]], ["matrix.os.*", ["linux", "Mac"]], ["matrix.none.*", []], ["matrix.none.*.x", []],
    ["inputs.text.*", []], ["inputs.absent.*", []], ["inputs.absent.*.x", []], ["matrix.nested.*.*", [1, 2, 3]], ["matrix.nested.*[0]", [1, 3]], ["matrix.nested[0].*", [1, 2]],
    ["github.event.commits.*.id[0]", []], ["(github.event.commits.*.id)[0]", []], ["contains(needs.*.result, 'failure')", true], ["contains(needs.*.result, 'cancelled')", false],
    ["join(github.event.commits.*.by.name, '+')", "Ann+Bo"], ["toJSON(matrix.none.*)", "[]"], ["!github.event.commits.*.absent", false],
  ],
  "contains, startsWith, endsWith": [
    ["contains('Hello world', 'llo')", true], ["contains('Hello', 'LLO')", true], ["contains('Hello', '')", true], ["contains('', 'a')", false], ["contains(12345, 34)", true],
    ["contains(true, 'RU')", true], ["contains(null, '')", true], ["contains(matrix.os, 'LINUX')", true], ["contains(matrix.os, 'lin')", false], ["contains(fromJSON('[1,2]'), '2')", true],
    ["contains(fromJSON('[0]'), null)", true], ["contains(fromJSON('[null]'), '')", true], ["contains(matrix.none, '')", false], ["contains(matrix.nested, 1)", false], ["contains(inputs, 'text')", false],
    ["contains(fromJSON('[\"push\", \"pull_request\"]'), 'Push')", true], ["startsWith('Hello', 'he')", true], ["startsWith('Hello', 'lo')", false], ["startsWith('Hello', '')", true],
    ["startsWith(1234, 12)", true], ["startsWith(matrix.os, 'l')", false], ["startsWith(null, '')", true], ["endsWith('Hello', 'LO')", true], ["endsWith('Hello', 'he')", false],
    ["endsWith(1234, 34)", true], ["endsWith('a', 'aa')", false], ["CONTAINS('a', 'A')", true], ["STARTSWITH('a', 'A')", true], ["endswith('a', 'A')", true],
    ["contains('a')", REFUSED], ["contains('a', 'b', 'c')", REFUSED], ["startsWith()", REFUSED], ["endsWith('a')", REFUSED],
  ],
  "format": [
    ["format('Hello {0} {1} {2}', 'Mona', 'the', 'cat')", "Hello Mona the cat"], ["format('{{Hello {0}!}}', 'Mona')", "{Hello Mona!}"], ["format('{0}{0}', 1)", "11"], ["format('{1}{0}', 'a', 'b')", "ba"],
    ["format('plain')", "plain"], ["format('')", ""], ["format('{0}', null)", ""], ["format('{0}', true)", "true"], ["format('{0}', 1.50)", "1.5"], ["format('{0}', matrix.os)", "Array"],
    ["format('{0}', inputs)", "Object"], ["format('{0} {1}', 'a', 'b', 'c')", "a b"], ["format('{{}}')", "{}"], ["format('{{{0}}}', 1)", "{1}"], ["format('{10}', 0,1,2,3,4,5,6,7,8,9,'x')", "x"],
    ["format(1)", "1"], ["format('{1}', 'a')", REFUSED], ["format('{', 'a')", REFUSED], ["format('}', 'a')", REFUSED], ["format('{x}', 'a')", REFUSED], ["format('{-1}', 'a')", REFUSED], ["format('{}', 'a')", REFUSED],
    ["format()", REFUSED], ["format('it''s {0}', 'x')", "it's x"],
  ],
  "join": [
    ["join(matrix.os, ', ')", "linux, Mac"], ["join(matrix.os)", "linux,Mac"], ["join(matrix.os, '')", "linuxMac"], ["join(matrix.none, ',')", ""], ["join('a', ',')", "a"], ["join(1, ',')", "1"],
    ["join(null, ',')", ""], ["join(inputs, ',')", ""], ["join(fromJSON('[1,null,true,\"x\"]'), '|')", "1||true|x"], ["join(fromJSON('[1,2]'), 0)", "102"], ["join(matrix.nested, ',')", "Array,Array"],
    ["join()", REFUSED], ["join(matrix.os, ',', ',')", REFUSED],
  ],
  "JSON": [
    ["toJSON(null)", "null"], ["toJSON('a\"b')", '"a\\"b"'], ["toJSON(12.5)", "12.5"], ["toJSON(true)", "true"], ["toJSON(matrix.none)", "[]"], ["toJSON(needs.test.outputs)", "{}"],
    ["toJSON(matrix.os)", '[\n  "linux",\n  "Mac"\n]'], ["toJSON(matrix.map.a)", '{\n  "v": 1\n}'], ["toJSON(matrix.nested)", "[\n  [\n    1,\n    2\n  ],\n  [\n    3\n  ]\n]"], ["tojson('x')", '"x"'],
    ["fromJSON('null')", null], ["fromJSON('true')", true], ["fromJSON('12.5')", 12.5], ["fromJSON('\"a\"')", "a"], ["fromJSON('[1, [2]]')", [1, [2]]], ["fromJSON('{\"a\": {\"b\": 1}}')", { a: { b: 1 } }],
    ["fromjson('{\"A\":1}').a", 1], ["fromJSON(toJSON(matrix.map)).b.v", 2], ["fromJSON('false') == false", true], ["fromJSON('\"false\"') == false", false], ["fromJSON('1e2')", 100], ["fromJSON(' [ ] ')", []],
    ["fromJSON('')", REFUSED], ["fromJSON('{')", REFUSED], ["fromJSON('[1,]')", REFUSED], ["fromJSON('a')", REFUSED], ["fromJSON()", REFUSED], ["fromJSON('1', '2')", REFUSED], ["toJSON()", REFUSED],
  ],
  "case": [
    ["case(true, 'a', 'b')", "a"], ["case(false, 'a', 'b')", "b"], ["case(false, 'a', true, 'b', 'c')", "b"], ["case(false, 'a', false, 'b', 'c')", "c"], ["case(1 == 1, 1, 2)", 1],
    ["case(inputs.no, 'a', inputs.yes, 'b', 'c')", "b"], ["case('true', 'a', 'b')", REFUSED], ["case(1, 'a', 'b')", REFUSED], ["case(null, 'a', 'b')", REFUSED], ["case(true, 'a')", REFUSED], ["case(true)", REFUSED],
    ["case(true, 'a', false, 'b')", REFUSED],
  ],
  "as text": [
    ["format('{0}', 0.1)", "0.1"], ["format('{0}', -0)", "0"], ["format('{0}', 1e3)", "1000"], ["format('{0}', 0xff)", "255"], ["format('{0}', NaN)", "NaN"], ["format('{0}', Infinity)", "Infinity"],
    ["format('{0}', -Infinity)", "-Infinity"], ["format('{0}', 100000)", "100000"], ["format('{0}', 0.0001)", "0.0001"], ["format('{0}', false)", "false"], ["format('{0}', '')", ""],
    ["startsWith(true, 'T')", true], ["endsWith(false, 'E')", true], ["contains(1.25, '.')", true], ["join(fromJSON('[0.5]'))", "0.5"],
  ],
  "limits": [
    [nested(49), 1], [nested(51), REFUSED], [" ".repeat(LONGEST - 1) + "1", 1], ["'" + "a".repeat(LONGEST - 2) + "' != ''", REFUSED],
    [`format('${"x".repeat(100)}', ${Array(254).fill("1").join(",")})`, "x".repeat(100)], [`format('x', ${Array(255).fill("1").join(",")})`, REFUSED],
  ],
};
