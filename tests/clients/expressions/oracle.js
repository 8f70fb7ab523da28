// What GitHub's package makes of an expression, and what appm does.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { Evaluator, Lexer, Parser, data } from "@actions/expressions";

const KINDS = { String: "string", Array: "array", Dictionary: "object", Boolean: "boolean", Number: "number", CaseSensitiveDictionary: "object", Null: "null" };

/** By the package: a value, or `refused` where it cannot be read, or `failed` where it has no value. */
export function theirs(text, contexts) {
  const roots = Object.keys(contexts);
  let tree;
  try {
    tree = new Parser(new Lexer(text).lex().tokens, roots, []).parse();
  } catch (error) {
    return { refused: error.message };
  }
  if (tree === undefined) return { refused: "empty" };
  try {
    const values = roots.map(key => ({ key, value: JSON.parse(JSON.stringify(contexts[key]), data.reviver) }));
    const value = new Evaluator(tree, new data.Dictionary(...values)).evaluate();
    const json = JSON.parse(JSON.stringify(value, data.replacer) ?? "null");
    return { kind: KINDS[data.Kind[value.kind]], text: value.coerceString(), value: json };
  } catch (error) {
    return { failed: error.message };
  }
}

/** By appm, one answer for each `{expression, contexts}`, in order. */
export async function* ours(asked) {
  const appm = spawn(process.env.APPM_BIN, ["workflow", "eval", "-"], { stdio: ["pipe", "pipe", "inherit"] });
  const answers = createInterface({ input: appm.stdout })[Symbol.asyncIterator]();
  const writing = (async () => {
    for (const each of asked) {
      if (!appm.stdin.write(JSON.stringify(each) + "\n")) await new Promise(done => appm.stdin.once("drain", done));
    }
    appm.stdin.end();
  })();
  for (let n = 0; n < asked.length; n++) {
    const { value: line, done } = await answers.next();
    if (done) throw new Error(`appm ended after ${n} of ${asked.length} answers`);
    yield JSON.parse(line);
  }
  await writing;
}
