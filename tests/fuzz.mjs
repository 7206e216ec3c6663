// Fuzzes the engine: builds the targets tests/fuzz/fuzz_*.c by the preset `fuzz` and runs each of
// them, or the one that is named, for so many minutes.
//
//   node tests/fuzz.mjs --minutes N [--target T] [--timeout SECONDS] [--coverage]
//
// The corpora lie in build/fuzz/corpus, and grow there from run to run. An input that crashes a
// target, is too slow (10 seconds, or --timeout: where processes are stopped for a while) or takes
// too much memory is kept in build/fuzz/found, beside the target's output; the exit status is 1 then.
//
// --coverage says how many lines of the engine the corpora run, and seeds and corpora together are
// all that it takes, so --minutes may be left out. build/coverage gets lines.txt, each line of the
// engine with how often it ran.
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

/** Runs a program; resolves to its status, all that it says, and what of it is its output. */
function hear(/** @type {string} */ program, /** @type {string[]} */ args, cwd = root) {
  return /** @type {Promise<{ status: number | null, text: string, out: string }>} */ (
    new Promise((resolve, reject) => {
      const child = spawn(program, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
      let text = '',
        out = '';
      for (const stream of [child.stdout, child.stderr])
        stream.setEncoding('utf8').on('data', (piece) => {
          text += piece;
          if (stream === child.stdout) out += piece;
        });
      child.on('error', reject);
      child.on('close', (status) => resolve({ status, text, out }));
    })
  );
}

/** Runs a target; true where nothing is found. */
async function fuzz(
  /** @type {string} */ target,
  /** @type {string[]} */ command,
  /** @type {number} */ minutes,
  /** @type {string | undefined} */ timeout,
) {
  const tree = treeOf('fuzz');
  const log = path.join(tree, 'found', `${target}.log`);
  const { status, text } = await hear(
    command[0],
    [
      ...command.slice(1),
      '-seed=0', // another run each time
      `-max_total_time=${Math.ceil(60 * minutes)}`,
      ...(timeout ? [`-timeout=${timeout}`] : []),
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

/**
 * The lines of each folder of src, of llvm-cov's export; a file counts once.
 * @param {{ data: { files: { filename: string, summary: { lines: { count: number, covered: number } }
 *   }[] }[] }} told
 */
export function linesOf(told) {
  /** @type {Record<string, { covered: number, count: number }>} */
  const folders = { all: { covered: 0, count: 0 } };
  for (const { filename, summary } of told.data[0].files) {
    const folder = /^src\/(\w+)\//.exec(path.relative(root, filename))?.[1];
    if (!folder) continue;
    for (const name of ['all', folder]) {
      folders[name] ??= { covered: 0, count: 0 };
      folders[name].covered += summary.lines.covered;
      folders[name].count += summary.lines.count;
    }
  }
  return folders;
}

/** Says how many lines of the engine each target's seeds and corpus run, and all of them together. */
async function coverage(/** @type {string[]} */ chosen) {
  await buildPreset('coverage', { quiet: true });
  const tree = treeOf('coverage');
  const clang = /CMAKE_C_COMPILER:\w+=(.+)/.exec(
    fs.readFileSync(path.join(tree, 'CMakeCache.txt'), 'utf8'),
  )?.[1];
  const tool = (/** @type {string} */ name) =>
    output(clang ?? '', `-print-prog-name=${name}`) ?? '';
  const heard = async (/** @type {string} */ program, /** @type {string[]} */ ...args) => {
    const { status, text, out } = await hear(program, args, tree);
    if (status !== 0) throw new SetupError(`${program} ended with ${status}: ${text.slice(-2000)}`);
    return out;
  };
  /** @type {(named: string[]) => string[]} llvm-cov's arguments for their programs */
  const programs = (named) => named.flatMap((target) => ['-object', `fuzz_${target}`]);
  const say = async (/** @type {string} */ name, /** @type {string[]} */ named) => {
    const { all, ...folders } = linesOf(
      JSON.parse(
        await heard(
          tool('llvm-cov'),
          'export',
          '-summary-only',
          `-instr-profile=${name}.profdata`,
          ...programs(named),
        ),
      ),
    );
    const share = ({ covered = 0, count = 0 }) => `${((100 * covered) / count).toFixed(1)} %`;
    console.log(
      `${name}: ${all.covered} of ${all.count} lines, ${share(all)}; ${Object.entries(folders)
        .map(([folder, of]) => `${folder} ${share(of)}`)
        .join(', ')}`,
    );
  };
  const merge = (/** @type {string} */ into, /** @type {string[]} */ ...from) =>
    heard(tool('llvm-profdata'), 'merge', '-o', `${into}.profdata`, ...from);
  /** @type {string[]} */
  const ran = [];
  for (const target of chosen) {
    const inputs = [
      path.join(root, 'tests/fuzz', target),
      path.join(treeOf('fuzz'), 'corpus', target),
    ]
      .filter((folder) => fs.existsSync(folder))
      .flatMap((folder) => fs.readdirSync(folder).map((name) => path.join(folder, name)));
    if (!inputs.length) {
      console.log(`${target}: no inputs yet, --minutes makes some`);
      continue;
    }
    ran.push(target);
    const raw = [];
    for (let i = 0; i < inputs.length; i += 1000) {
      raw.push(`${target}-${i}.profraw`);
      await heard(
        'env',
        `LLVM_PROFILE_FILE=${raw.at(-1)}`,
        `./fuzz_${target}`,
        '-timeout=600',
        ...inputs.slice(i, i + 1000),
      );
    }
    await merge(target, ...raw);
    for (const name of raw) fs.rmSync(path.join(tree, name));
    await say(target, [target]);
  }
  if (!ran.length) return;
  await merge('all', ...ran.map((target) => `${target}.profdata`));
  if (ran.length > 1) await say('all', ran);
  fs.writeFileSync(
    path.join(tree, 'lines.txt'),
    await heard(tool('llvm-cov'), 'show', '-instr-profile=all.profdata', ...programs(ran)),
  );
}

async function main() {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string' },
      target: { type: 'string' },
      timeout: { type: 'string' },
      coverage: { type: 'boolean', default: false },
    },
  });
  const minutes = Number(values.minutes);
  const known = targets();
  let wrong = '';
  if (!(minutes > 0) && (values.minutes !== undefined || !values.coverage))
    wrong = '--minutes N says how long each target runs: a number above 0';
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
  const chosen = values.target === undefined ? known : [values.target];
  let good = true;
  for (const target of minutes > 0 ? chosen : []) {
    const command = tests.find(({ name }) => name === `fuzz_${target}`)?.command;
    if (!command) throw new SetupError(`${target} was not built: see what ninja says in ${tree}.`);
    console.error(`${target}: ${minutes} minutes …`);
    good = (await fuzz(target, command, minutes, values.timeout)) && good;
  }
  if (values.coverage) await coverage(chosen);
  if (!good) process.exitCode = 1;
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url))
  main().catch(exitWith);
