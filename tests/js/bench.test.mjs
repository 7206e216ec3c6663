// The measurements that no other test runs: that they run, not what they measure.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { root } from './support/cli.mjs';
import { tinyPath } from './support/tiny-model.mjs';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-bench-'));
after(() => fs.rmSync(folder, { recursive: true }));

test('bench:peers: speeds, ratios, shares of what the machine can do, a picture', () => {
  const [json, plot] = ['json', 'svg'].map((end) => path.join(folder, `peers.${end}`));
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [
      'tests/bench/peers.mjs',
      ...['--model', tinyPath, '--engines', 'native,native:scalar,node', '--rounds', '2'],
      ...['--threads', '1,2', '--prompts', '8,24', '--contexts', '8', '--tokens', '4'],
      ...['--json', json, '--plot', plot],
    ],
    { cwd: root, encoding: 'utf8' },
  );
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^\| native:scalar \| \d+ \(\d+ %\) \|/m);
  const { races } = JSON.parse(fs.readFileSync(json, 'utf8'));
  assert.deepEqual(
    races.map((/** @type {{ threads: number }} */ { threads }) => threads),
    [1, 2],
  );
  for (const { read_bytes_per_s: read, macs_per_s: macs, engines } of races) {
    assert.ok(read > 1e8 && macs > 1e8, `${read} bytes/s, ${macs} multiply-adds/s`);
    for (const { name, figures } of engines)
      for (const { column, tokens_per_second: speed, times, share } of figures) {
        assert.ok(
          speed > 0 && share > 0 && times === null,
          `${name} ${column}: ${speed}, ${share}`,
        );
      }
  }
  const picture = fs.readFileSync(plot, 'utf8');
  assert.equal(picture.match(/<rect x/g)?.length, 2 * 3 * 3, 'a bar for each figure');
  assert.match(picture, /prompt 24<\/text>.*decode after 8<\/text>/s);
});
