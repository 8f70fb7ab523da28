// The package's own cases (actions/languageservices, expressions/testdata), where a checkout is named; they are not in the package, and none of ours.
//
//   APPM_EXPRESSIONS_TESTDATA=…/languageservices/expressions/testdata tests/clients/run expressions
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { ours } from "./oracle.js";
import { REASONS } from "./reasons.js";

const folder = process.env.APPM_EXPRESSIONS_TESTDATA;
if (!folder) {
  console.log("published cases: APPM_EXPRESSIONS_TESTDATA names no checkout of them; the package itself is asked");
  process.exit(0);
}

const cases = [];
for (const file of readdirSync(folder).filter(name => name.endsWith(".json")).sort()) {
  for (const [name, list] of Object.entries(JSON.parse(readFileSync(join(folder, file), "utf8")))) {
    for (const each of list) cases.push({ where: `${file} ${name}`, ...each });
  }
}
const asked = cases.map(each => ({ expression: each.expr, contexts: each.contexts ?? {} }));
const wrong = [];
let at = 0, explained = 0;
for await (const answer of ours(asked)) {
  const { where, expr, result, err } = cases[at++];
  const same = err ? "error" in answer : answer.kind === result.kind.toLowerCase() && JSON.stringify(answer.value) === JSON.stringify(result.value ?? null);
  if (same) continue;
  const theirs = err ? { failed: err.value } : { text: String(result.value), value: result.value };
  if (REASONS.some(([, differs]) => differs(expr, answer, theirs))) explained++;
  else wrong.push({ where, expr, answer, result, err });
}
console.log(`${cases.length} published cases: ${explained} differ for a reason that is known, ${wrong.length} without one`);
wrong.slice(0, 40).forEach(each => console.log(JSON.stringify(each)));
process.exit(wrong.length ? 1 : 0);
