// Values of random expressions, by appm and by GitHub's own `@actions/expressions`: every difference is one of those that are explained.
//
//   APPM_EXPRESSIONS=100000 APPM_EXPRESSIONS_SEED=7 tests/clients/run expressions
//
// What is made: all operators, functions, literals, indexes and stars, over roots that hold every kind; and of each tenth expression a
// broken one, which both have to refuse. Where the package follows JavaScript and GitHub's runner follows .NET, appm follows the runner
// (docs/design/024-expressions.md). Such expressions are made, too, and counted by the reason below that explains each.
import { ours as ask, theirs } from "./oracle.js";
import { REASONS } from "./reasons.js";

const COUNT = Number(process.env.APPM_EXPRESSIONS ?? 10000);
const SEED = Number(process.env.APPM_EXPRESSIONS_SEED ?? 2026);

/** Numbers from 0 to 1 (mulberry32). */
function chance(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
const random = chance(SEED);
const below = n => Math.floor(random() * n);
const pick = list => list[below(list.length)];
const often = share => random() < share;

const contexts = {
  github: { ref: "refs/heads/Main", event: { commits: [{ id: 1, by: { name: "Ann" } }, { id: 2 }, 7, { id: null }], Number: "12" } },
  needs: { build: { result: "success", outputs: { digest: "abc", flag: "false" } }, test: { result: "failure", outputs: {} } },
  matrix: { os: ["linux", "Mac", "", 0, null, false], nested: [[1, 2], [3, [4]], []], on: true, v: 1.75 },
  inputs: { env: "prod", count: 3, none: null, empty: "", dry: false, "big-key": -0.5, text: "0x1F", blank: " ", sep: "-", list: '[1,"a",{"k":[true]}]' },
};
const ROOTS = Object.keys(contexts);
const KEYS = ["ref", "event", "commits", "id", "by", "name", "build", "result", "outputs", "digest", "os", "nested", "on", "v", "env", "count",
  "none", "empty", "dry", "big-key", "text", "true", "null", "NOT-THERE", "ENV", "Os", "k"];
const NUMBERS = ["0", "1", "2", "-1", "+3", "1.5", ".5", "-0", "10", "1e3", "2.5e-2", "0xff", "0x7fffffff", "0o17", "Infinity", "-Infinity", "NaN", "123456.789"];
/** Where the two differ, and why is known. */
const ODD = ["0xffffffff", "0X1F", "'0b11'", "1e21", "0.00001", "0.1234567890123456789", "'ß'", "'ſ'", "'it''s a ''quote'''"];
const STRINGS = ["", " ", "a", "A", "prod", "PROD", "success", "1", "2", "0", "true", "false", "null", "0x1f", "1e3", " 12 ", "é", "É", "日本", "it''s", "-", ",",
  "refs/heads/", "main", "Infinity", "NaN", "abc", "Object", "Array", "b", "{0}", "x y"];
const JSONS = ["[]", "{}", "[1,2,3]", '{"a":{"b":[1,null,"x"]},"c":true}', '"text"', "12.5", "null", "true", ' [ {"id":1} , {"id":2} ] ', '{"k":"v","K":"w"}', '[[],[{}],""]'];
const FORMATS = ["{0}", "{0}{1}", "{{{0}}}", "a{{b}}{1}c", "{1}-{0}-{1}", "plain", ""];

const string = () => `'${pick(STRINGS)}'`;
const word = text => (often(0.15) ? [...text].map(c => (often(0.5) ? c.toUpperCase() : c.toLowerCase())).join("") : text);
const space = () => (often(0.8) ? " " : pick(["", "  ", "\t", "\n", " \r\n"]));

function literal() {
  if (often(0.005)) return pick(ODD);
  return pick([() => pick(["null", "true", "false"]), () => pick(NUMBERS), string, string])();
}

function way(depth) {
  let text = often(0.15) ? `fromJSON('${pick(JSONS)}')` : word(pick(ROOTS));
  for (let steps = below(5); steps > 0; steps--) {
    text += pick([
      () => `.${word(pick(KEYS))}`, () => `.${word(pick(KEYS))}`, () => `.${word(pick(KEYS))}`,
      () => ".*", () => "[*]", () => `['${pick(KEYS)}']`, () => `[${pick(["0", "1", "2", "1.9", "-1", "null", "true", "'1'", "NaN"])}]`,
      () => (depth > 0 ? `[${expression(depth - 2)}]` : ".*"),
    ])();
  }
  return text;
}

function call(depth) {
  const of = () => expression(depth - 1);
  const list = () => (often(0.7) ? way(depth - 1) : of());
  return pick([
    () => `${word("contains")}(${list()},${space()}${of()})`,
    () => `${word("startsWith")}(${of()},${space()}${of()})`,
    () => `${word("endsWith")}(${of()},${space()}${of()})`,
    () => `${word("format")}('${pick(FORMATS)}',${space()}${of()}, ${of()})`,
    () => `${word("join")}(${list()}${often(0.5) ? `, ${of()}` : ""})`,
    () => `${word("toJSON")}(${often(0.5) ? way(depth - 1) : of()})`,
    () => `${word("fromJSON")}('${pick(JSONS)}')`,
    () => `${word("fromJSON")}(${word("toJSON")}(${of()}))`,
    () => `${word("case")}(${of()} == ${of()}, ${of()}, ${of()})`,
  ])();
}

function expression(depth) {
  if (depth <= 0) return often(0.5) ? literal() : way(0);
  const of = () => expression(depth - 1 - below(2));
  const binary = symbols => `${of()}${space()}${pick(symbols)}${space()}${of()}`;
  return pick([
    () => binary(["==", "!="]), () => binary(["==", "!="]), () => binary(["<", "<=", ">", ">="]), () => binary(["&&", "||"]), () => binary(["&&", "||"]),
    () => `!${often(0.5) ? "" : space()}${of()}`, () => `(${of()})${often(0.1) ? pick([".*", ".k", "[0]"]) : ""}`, () => call(depth), () => call(depth), () => way(depth), literal,
  ])();
}

/** With something put in, left out or doubled. */
function broken(text) {
  const at = below(text.length + 1);
  const junk = pick(["", "(", ")", "[", "]", ",", ".", "*", "!", "=", "&", "|", "'", '"', "+", "-", "%", "@", " ", "a", "1", "''", "==", "null"]);
  return text.slice(0, at) + junk + text.slice(at + below(3));
}

const asked = [];
for (let n = 0; n < COUNT; n++) {
  const text = expression(1 + below(5));
  asked.push({ expression: n % 10 === 9 ? broken(text) : text, contexts });
}

const same = (ours, other) =>
  "error" in ours ? !("kind" in other) : ours.kind === other.kind && ours.text === other.text && JSON.stringify(ours.value) === JSON.stringify(other.value);

let at = 0, refused = 0, failed = 0;
const explained = new Map(REASONS.map(([name]) => [name, 0]));
const wrong = [];
for await (const ours of ask(asked)) {
  const text = asked[at++].expression;
  const other = theirs(text, contexts);
  refused += "refused" in other;
  failed += "failed" in other;
  if (same(ours, other)) continue;
  const reason = REASONS.find(([, differs]) => differs(text, ours, other));
  if (reason) explained.set(reason[0], explained.get(reason[0]) + 1);
  else wrong.push({ text, ours, other });
}
console.log(`seed ${SEED}: ${asked.length} expressions, ${refused} of them refused, ${failed} without a value; ${wrong.length} differ without a reason`);
for (const [name, count] of explained) console.log(`${String(count).padStart(7)}  ${name}`);
wrong.slice(0, 40).forEach(each => console.log(JSON.stringify(each)));
process.exit(wrong.length ? 1 : 0);
