// The curve of shards: `gather` (or another command of shards) as one, two, four and eight.
//
//   node tests/bench/shards.mjs [--model FILE] [--shards 1,2,4,8] [--at-once CORES] [-- COMMAND…]
//
// COMMAND is of exitlm, with MODEL where the model stands; by default it gathers 64 conversations of
// tests/data/prompts-train.jsonl. So many workers as there are cores run at a time, one thread each.
// What a worker costs is processor time, which other work on the machine hardly changes: with a machine
// for each shard the work takes as long as the dearest one.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { defaultModel, root } from '../answers/tools.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    'model': { type: 'string', default: defaultModel },
    'shards': { type: 'string', default: '1,2,4,8' },
    'at-once': { type: 'string', default: String(os.availableParallelism()) },
  },
});
const program = path.join(root, 'build/exitlm');
const data = path.join(root, 'tests/data/prompts-train.jsonl');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-shards-'));
const few = path.join(folder, 'few.jsonl');
fs.writeFileSync(few, fs.readFileSync(data, 'utf8').split('\n').slice(0, 64).join('\n'));
const command = positionals.length
  ? positionals.map((word) => (word === 'MODEL' ? values.model : word))
  : ['gather', values.model, '--data', few, '--self-chat', '0', '--answers', '1'];

/** @param {string} shard @param {string} part @returns {Promise<number>} seconds of processor time */
function work(shard, part) {
  const args = [program, ...command, '--shard', shard, '-o', part, '-q'];
  // times of bash tells what its children took
  const child = spawn('bash', ['-c', 'TIMEFORMAT="%U %S"; time "$@"', 'bash', ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (text) => (said += text));
  return new Promise((resolve, reject) => {
    child.on('close', (status) => {
      const found = /([\d.]+) ([\d.]+)\s*$/.exec(said);
      if (status === 0 && found) resolve(Number(found[1]) + Number(found[2]));
      else reject(new Error(said));
    });
  });
}

try {
  console.log('| shards | all, CPU s | the dearest, CPU s | a machine each | here, s |');
  console.log('|---|---|---|---|---|');
  let whole = 0;
  for (const n of values.shards.split(',').map(Number)) {
    const left = Array.from({ length: n }, (_, i) => i + 1);
    /** @type {number[]} */
    const took = [];
    const began = performance.now();
    const worker = async () => {
      for (let i = left.shift(); i; i = left.shift())
        took.push(await work(`${i}/${n}`, path.join(folder, `${n}.${i}`)));
    };
    await Promise.all(Array.from({ length: Number(values['at-once']) }, worker));
    const [all, most] = [took.reduce((sum, x) => sum + x, 0), Math.max(...took)];
    whole ||= all;
    const here = (performance.now() - began) / 1000;
    console.log(
      `| ${n} | ${all.toFixed(1)} | ${most.toFixed(1)} | ${(whole / most).toFixed(2)}x | ${here.toFixed(1)} |`,
    );
  }
} finally {
  fs.rmSync(folder, { recursive: true, force: true });
}
