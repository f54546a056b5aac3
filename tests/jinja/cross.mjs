// Renders every case with the reference and with us: the same bytes, or both refuse. The cases that
// exceptions.json lists must give what it says, and must still differ from the reference.
// Usage: node cross.mjs WORK_DIR JINJA_RENDER
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const [workDir, jinjaRender] = process.argv.slice(2).map((path) => resolve(path));
const { Template } = createRequire(join(workDir, "package.json"))("@huggingface/jinja");

// Both sides stand at the same second, see jinja_render.cpp.
const now = Date.UTC(2024, 6, 26, 13, 5, 9);
globalThis.Date = class extends Date {
  constructor(...given) {
    super(...(given.length > 0 ? given : [now]));
  }
};

const read = (name) => readFileSync(join(here, name), "utf8");

function conversations() {
  const { common, cases } = JSON.parse(read("conversations.json"));
  const found = [];
  for (const file of readdirSync(join(here, "templates")).sort()) {
    const template = read(join("templates", file));
    for (const { name, ...context } of cases) {
      found.push({ name: `${file} x ${name}`, template, context: { ...common, ...context } });
    }
  }
  return found;
}

function snippets() {
  const context = JSON.parse(read("snippet_context.json"));
  const lines = read("snippets.txt").split("\n");
  const found = [];
  lines.forEach((template, i) => {
    if (template === "" || template.startsWith("## ")) return;
    found.push({ name: `snippets.txt:${i + 1}`, template, context });
  });
  for (const [i, template] of JSON.parse(read("layout.json")).entries()) {
    found.push({ name: `layout.json[${i}] ${JSON.stringify(template)}`, template, context });
  }
  return [...found, ...products(context)];
}

function products(context) {
  const set = JSON.parse(read("products.json"));
  const templates = [];
  for (const operand of set.operands) {
    for (const filter of set.filters) templates.push(`{{ ${operand}|${filter} }}`);
    for (const test of set.tests) templates.push(`{{ ${operand} is ${test} }}`);
    for (const member of set.members) templates.push(`{{ (${operand}).${member} }}`);
    for (const index of set.indices) templates.push(`{{ (${operand})[${index}] }}`);
    templates.push(
      `{{ ${operand} }}`,
      `{{ not ${operand} }}`,
      `{{ - ${operand} }}`,
      `{{ "yes" if ${operand} else "no" }}`,
      `{% for x in ${operand} %}{{ x }};{% else %}empty{% endfor %}`,
      `{% for a, b in ${operand} %}{{ a }}={{ b }};{% endfor %}`,
      `{% set a, b = ${operand} %}{{ a }}{{ b }}`,
    );
  }
  for (const left of set.pair_operands) {
    for (const right of set.pair_operands) {
      for (const op of set.operators) templates.push(`{{ ${left} ${op} ${right} }}`);
    }
  }
  return templates.map((template) => ({ name: `products.json ${template}`, template, context }));
}

function exceptions() {
  const { reasons, cases } = JSON.parse(read("exceptions.json"));
  const context = JSON.parse(read("snippet_context.json"));
  return cases.map((item) => {
    if (!(item.reason in reasons)) throw new Error(`no such reason: ${item.reason}`);
    return { name: `exceptions.json ${item.reason}: ${item.template}`, context, ...item };
  });
}

function reference({ template, context }) {
  try {
    return { output: new Template(template).render(structuredClone(context)) };
  } catch (error) {
    return { error: String(error.message) };
  }
}

function ours(cases) {
  const input = join(workDir, "cases.jsonl");
  const lines = cases.map(({ template, context }) => JSON.stringify({ template, context }));
  writeFileSync(input, lines.join("\n") + "\n");
  const output = execFileSync(jinjaRender, [input], { encoding: "utf8", maxBuffer: 1 << 28 });
  return output.trimEnd().split("\n").map((line) => JSON.parse(line));
}

const same = (a, b) => ("error" in a ? "error" in b : a.output === b.output);

const excepted = exceptions();
const listed = new Set(excepted.map(({ template }) => template));
const shared = [...conversations(), ...snippets()].filter(({ template }) => !listed.has(template));
const answers = ours([...shared, ...excepted]);
if (answers.length !== shared.length + excepted.length) throw new Error("answers are missing");

const failures = [];
let refusals = 0;
shared.forEach((item, i) => {
  const expected = reference(item);
  if ("error" in expected) ++refusals;
  if (!same(expected, answers[i])) failures.push([item, expected, answers[i]]);
});
excepted.forEach((item, i) => {
  const wanted = item.refused ? { error: "(a refusal)" } : { output: item.output };
  const answer = answers[shared.length + i];
  if (!same(wanted, answer)) failures.push([item, wanted, answer]);
  const judged = reference(item);
  if (same(judged, answer)) failures.push([item, { stale: "equals the reference now" }, answer]);
});

for (const [item, expected, answer] of failures) {
  console.log(`FAILED ${item.name}\n  template: ${JSON.stringify(item.template.slice(0, 200))}`);
  console.log(`  expected: ${JSON.stringify(expected)}\n  ours:     ${JSON.stringify(answer)}`);
}
console.log(
  `${shared.length} cases, ${refusals} of them refused; ${excepted.length} named exceptions; ` +
    `${failures.length} failures`,
);
process.exit(failures.length > 0 ? 1 : 0);
