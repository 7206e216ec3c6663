// What the heads cost where nothing exits: their calibrated thresholds are replaced by ones that no
// token passes, so every check is made and fails. The worst case of mode exit, in time.
//
//   node tests/bench/checks.mjs [--reps 7] [--tokens 96] [--json FILE]
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { defaultModel, program } from '../answers/tools.mjs';
import { heads } from './hosts.mjs';

const { values } = parseArgs({
  options: {
    reps: { type: 'string', default: '7' },
    tokens: { type: 'string', default: '96' },
    json: { type: 'string' },
  },
});

/** A copy of the heads whose thresholds above 0 are all `threshold`. */
function withThresholds(/** @type {Buffer} */ bytes, /** @type {number} */ threshold) {
  const copy = Buffer.from(bytes);
  const key = copy.indexOf('exitlm.levels.threshold') + 'exitlm.levels.threshold'.length;
  if (copy.readUInt32LE(key) !== 9 || copy.readUInt32LE(key + 4) !== 6)
    throw new Error('the heads have no list of thresholds');
  const n = Number(copy.readBigUInt64LE(key + 8));
  for (let i = 0; i < n; i++)
    if (copy.readFloatLE(key + 16 + 4 * i) > 0) copy.writeFloatLE(threshold, key + 16 + 4 * i);
  return copy;
}

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-checks-'));
try {
  const never = path.join(folder, 'never.exits.gguf');
  fs.writeFileSync(never, withThresholds(fs.readFileSync(heads), 1e-30));
  const report = JSON.parse(
    execFileSync(
      program,
      [
        'bench',
        defaultModel,
        '--heads',
        never,
        '--reps',
        values.reps,
        '--gen-tokens',
        values.tokens,
        '--context',
        '40',
        '--json',
      ],
      { encoding: 'utf8' },
    ),
  );
  console.log(
    '| mode | tokens/s | time of a token, times full | mean depth | mean work |\n|---|---|---|---|---|',
  );
  const full = report.decode.find((/** @type {any} */ run) => run.mode === 'full');
  for (const run of report.decode) {
    console.log(
      `| ${run.mode} ${run.accuracy ?? ''} | ${run.tokens_per_second.toFixed(1)} | ${(full.tokens_per_second / run.tokens_per_second).toFixed(3)} | ${run.mean_depth.toFixed(2)} | ${run.mean_work.toFixed(3)} |`,
    );
  }
  if (values.json) fs.writeFileSync(values.json, JSON.stringify(report, null, 1));
} finally {
  fs.rmSync(folder, { recursive: true });
}
