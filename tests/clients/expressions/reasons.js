// Why the two may differ: each is a place where the package follows JavaScript and GitHub's runner follows .NET, or is stricter.
// appm follows the runner (docs/design/024-expressions.md has the same list).

/** Each: its name, and whether it may be why these two answers to this text differ. */
export const REASONS = [
  ["the package reads the first doubled quote of a string only", text => /'(?:[^']|'')*''(?:[^']|'')*''(?:[^']|'')*'/.test(text)],
  ["the package looks at arguments that nothing hangs on", (text, ours, theirs) => "failed" in theirs && !("error" in ours) && /(contains|startsWith|endsWith|format|case|join)\s*\(/i.test(text)],
  ["the runner has NaN and Infinity in JSON, which nothing reads again", text => /tojson/i.test(text) && /NaN|Infinity/.test(text)],
  ["hexadecimal and octal numbers have 32 bits and a sign, and are written in small letters", text => /0x[0-9a-f]{8,}|0o[0-7]{11,}|0X|0O|0b/i.test(text)],
  ["a place in a format is a number", (text, ours) => /is not a format/.test(ours.error ?? "")],
  ["numbers have 15 digits as texts, and .NET's exponents", text => /\de[+-]?\d\d|0\.00001|0\.1234567890123456789/i.test(text)],
  ["case is ignored letter by letter", text => /[ßſ]/.test(text)],
  ["no comma stands last among arguments", (text, ours) => /,\s*\)/.test(text) && /unexpected `\)`/.test(ours.error ?? "")],
];
