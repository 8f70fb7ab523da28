// The language case by case (language.js), by appm and by the package: both must say what stands there, but for what is explained in reasons.js.
// Where a checkout of GitHub's own cases is named (actions/languageservices, expressions/testdata: no release has them), these, too.
//
//   APPM_EXPRESSIONS_TESTDATA=…/languageservices/expressions/testdata tests/clients/run expressions
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { CASES, CONTEXTS, REFUSED } from "./language.js";
import { ours, theirs } from "./oracle.js";
import { REASONS } from "./reasons.js";

const kind = value => (value === null ? "null" : Array.isArray(value) ? "array" : typeof value);
const text = JSON.stringify;

/** Whether an answer is this value. Of numbers the texts tell, since JSON has neither NaN nor Infinity. */
function is(answer, value) {
  if (value === REFUSED) return !("kind" in answer);
  if (answer.kind !== kind(value)) return false;
  return typeof value === "number" ? Object.is(Number(answer.text) + 0, value + 0) : text(answer.value) === text(value);
}

const explained = (expression, answer, other) => REASONS.some(([, differs]) => differs(expression, answer, other));

async function language() {
  const cases = Object.entries(CASES).flatMap(([about, list]) => list.map(([expression, value]) => ({ about, expression, value })));
  const wrong = [];
  let at = 0, departs = 0;
  for await (const answer of ours(cases.map(({ expression }) => ({ expression, contexts: CONTEXTS })))) {
    const { about, expression, value } = cases[at++];
    const shown = { about, expression: expression.slice(0, 100), value: value === REFUSED ? "refused" : value };
    const other = theirs(expression, CONTEXTS);
    if (!is(answer, value)) wrong.push({ ...shown, appm: answer });
    if (is(other, value)) continue;
    if (explained(expression, answer, other)) departs++;
    else wrong.push({ ...shown, package: other });
  }
  console.log(`${cases.length} cases of the language: of ${departs} the package says something else for a reason that is known, ${wrong.length} are wrong`);
  return wrong;
}

async function published(folder) {
  const cases = [];
  for (const file of readdirSync(folder).filter(name => name.endsWith(".json")).sort()) {
    for (const [name, list] of Object.entries(JSON.parse(readFileSync(join(folder, file), "utf8")))) {
      for (const each of list) cases.push({ where: `${file} ${name}`, ...each });
    }
  }
  const wrong = [];
  let at = 0, departs = 0;
  for await (const answer of ours(cases.map(each => ({ expression: each.expr, contexts: each.contexts ?? {} })))) {
    const { where, expr, result, err } = cases[at++];
    const same = err ? "error" in answer : answer.kind === result.kind.toLowerCase() && text(answer.value) === text(result.value ?? null);
    if (same) continue;
    const other = err ? { failed: err.value } : { text: String(result.value), value: result.value };
    if (explained(expr, answer, other)) departs++;
    else wrong.push({ where, expr, answer, result, err });
  }
  console.log(`${cases.length} published cases: ${departs} differ for a reason that is known, ${wrong.length} without one`);
  return wrong;
}

const folder = process.env.APPM_EXPRESSIONS_TESTDATA;
const wrong = [...(await language()), ...(folder ? await published(folder) : [])];
wrong.slice(0, 40).forEach(each => console.log(text(each)));
process.exit(wrong.length ? 1 : 0);
