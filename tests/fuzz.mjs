// Fuzzes the engine: builds the targets tests/fuzz/fuzz_*.c by the preset `fuzz` and runs each of
// them, or the one that is named, for so many minutes.
//
//   node tests/fuzz.mjs --minutes N [--target T]
//
// The corpora lie in build/fuzz/corpus, and grow there from run to run. An input that crashes a
// target, is too slow or takes too much memory is kept in build/fuzz/found, beside the target's
// output; the exit status is 1 then.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildPreset, treeOf } from '../wasm/setup/build.mjs';
import { SetupError, exitWith, output, root, setUp } from '../wasm/setup/setup.mjs';

/** The names of all targets. */
const targets = () =>
  fs
    .readdirSync(path.join(root, 'tests/fuzz'))
    .flatMap((name) => /^fuzz_(\w+)\.c$/.exec(name)?.[1] ?? [])
    .sort();

/** What a run of a target says of itself. @param {string} text libFuzzer's output */
export function figures(text) {
  const last = (/** @type {RegExp} */ of) => Number([...text.matchAll(of)].at(-1)?.[1] ?? 0);
  return {
    executions: last(/^stat::number_of_executed_units:\s*(\d+)/gm),
    edges: last(/\bcov: (\d+)/g),
    allEdges: last(/\((\d+) inline 8-bit counters\)/g),
    inputs: last(/\bcorp: (\d+)/g),
    found: [...text.matchAll(/^.*Test unit written to (.+)$/gm)].map(([, file]) => file),
    why: (/not true: .+/.exec(text) ??
      /runtime error: .+/.exec(text) ??
      /SUMMARY: .+/.exec(text))?.[0],
  };
}

/** Runs a program; resolves to its status and all that it says. */
function hear(/** @type {string} */ program, /** @type {string[]} */ args, cwd = root) {
  return /** @type {Promise<{ status: number | null, text: string }>} */ (
    new Promise((resolve, reject) => {
      const child = spawn(program, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
      let text = '';
      for (const stream of [child.stdout, child.stderr])
        stream.setEncoding('utf8').on('data', (piece) => {
          text += piece;
        });
      child.on('error', reject);
      child.on('close', (status) => resolve({ status, text }));
    })
  );
}

/** Runs a target; true where nothing is found. */
async function fuzz(
  /** @type {string} */ target,
  /** @type {string[]} */ command,
  /** @type {number} */ minutes,
) {
  const tree = treeOf('fuzz');
  const log = path.join(tree, 'found', `${target}.log`);
  const { status, text } = await hear(
    command[0],
    [
      ...command.slice(1),
      '-seed=0', // another run each time
      `-max_total_time=${Math.ceil(60 * minutes)}`,
      `-artifact_prefix=found/${target}-`,
    ],
    tree,
  );
  fs.writeFileSync(log, text);
  const { executions, edges, allEdges, inputs, found, why } = figures(text);
  console.log(
    `${target}: ${executions.toLocaleString('en')} executions, ${edges} of ${allEdges} edges, ` +
      `${inputs} inputs in the corpus; ${status === 0 ? 'nothing found' : `FOUND: ${why ?? `it ended with ${status}`}`}`,
  );
  if (status === 0) return true;
  for (const file of found) console.log(`  the input: ${path.join(tree, file)}`);
  console.log(`  what it said: ${log}`);
  if (found.length)
    console.log(`  again: ${command[0]} ${path.join(tree, /** @type {string} */ (found[0]))}`);
  return false;
}

async function main() {
  const { values } = parseArgs({
    options: { minutes: { type: 'string' }, target: { type: 'string' } },
  });
  const minutes = Number(values.minutes);
  const known = targets();
  let wrong = '';
  if (!(minutes > 0)) wrong = '--minutes N says how long each target runs: a number above 0';
  else if (values.target !== undefined && !known.includes(values.target))
    wrong = `--target ${values.target}: the targets are ${known.join(', ')}`;
  if (wrong) {
    console.error(`exitlm: ${wrong}`);
    process.exit(2);
  }
  await setUp(['fuzz']);
  await buildPreset('fuzz', { quiet: true });
  const tree = treeOf('fuzz');
  fs.mkdirSync(path.join(tree, 'found'), { recursive: true });
  /** @type {{ tests: { name: string, command: string[] }[] }} How npm test runs them. */
  const { tests } = JSON.parse(
    output('ctest', '--test-dir', tree, '--show-only=json-v1') ?? '{"tests":[]}',
  );
  let good = true;
  for (const target of values.target === undefined ? known : [values.target]) {
    const command = tests.find(({ name }) => name === `fuzz_${target}`)?.command;
    if (!command) throw new SetupError(`${target} was not built: see what ninja says in ${tree}.`);
    console.error(`${target}: ${minutes} minutes …`);
    good = (await fuzz(target, command, minutes)) && good;
  }
  if (!good) process.exitCode = 1;
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url))
  main().catch(exitWith);
