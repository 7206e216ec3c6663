// The package in Node, Deno and Bun: one small suite (support/suite.mjs), the same tokens and exit
// layers as the native program.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { program, root } from '../js/support/cli.mjs';
import { roomyBytes, tinyHeads } from '../js/support/tiny-model.mjs';
import { pack } from './support/models.mjs';
import { runtimes } from './support/runtimes.mjs';

const { deno, bun } = runtimes();
const suite = path.join(root, 'tests/edge/support/suite.mjs');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-runtimes-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

/** @type {any[]} */
let expected;

before(async () => {
  fs.writeFileSync(path.join(folder, 'tiny.gguf'), roomyBytes);
  fs.writeFileSync(path.join(folder, 'tiny.exits.gguf'), await tinyHeads(undefined, roomyBytes));
  fs.writeFileSync(path.join(folder, 'cut.gguf'), roomyBytes.subarray(0, 150_000));
  fs.writeFileSync(path.join(folder, 'text.gguf'), 'this is not a model\n'.repeat(10));
  pack(path.join(folder, 'packed'), path.join(folder, 'tiny.gguf'), ['--shard-size', '256K']);
  const out = execFileSync(
    program,
    [
      'chat',
      'tiny.gguf',
      '-p',
      'Hi, how are you?',
      '--max-tokens',
      '24',
      '--mode',
      'exit',
      '--accuracy',
      '0.9',
      '--ctx',
      '2048',
      '--json',
      '--threads',
      '1',
    ],
    { cwd: folder, encoding: 'utf8' },
  );
  expected = out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .filter(({ type }) => type === 'token');
});

/** @type {[string, string, string[]][]} */
const all = [
  ['Node', process.execPath, []],
  ['Deno', deno, ['run', '--allow-all', '--no-config']],
  ['Bun', bun, ['run']],
];
for (const [name, runtime, args] of all) {
  describe(name, () => {
    for (const where of ['worker', 'same thread']) {
      test(where, () => {
        const { status, stdout, stderr, error } = spawnSync(
          runtime,
          [...args, suite, folder, where === 'worker' ? 'worker' : 'here'],
          {
            cwd: root,
            encoding: 'utf8',
            timeout: 120_000,
            env: {
              ...process.env,
              DENO_NO_UPDATE_CHECK: '1',
              DENO_DIR: path.join(folder, 'deno'),
              DO_NOT_TRACK: '1',
            },
          },
        );
        assert.equal(status, 0, error?.message ?? stderr);
        const result = JSON.parse(stdout);
        assert.deepEqual(
          result.ids,
          expected.map(({ id }) => id),
          "the native program's tokens",
        );
        assert.deepEqual(
          result.layers,
          expected.map(({ layer }) => layer),
          'and its exit layers',
        );
        assert.ok(
          result.layers.some((/** @type {number} */ layer) => layer < 6),
          'some left early',
        );
        assert.deepEqual(
          result.depths,
          expected.map(({ layer }) => layer / 6),
        );
        assert.equal(result.loaded, 1);
        assert.match(result.kernel, /^(relaxed|simd128)/);
        assert.equal(result.stopped, 'enough', 'an aborted signal rejects with its reason');
        assert.equal(result.left, 'abort', 'a loop that is left stops the work');
        assert.equal(result.again, result.text, 'and the model goes on working');
        assert.equal(result.fromShards, result.text, 'the packed model answers alike');
        assert.deepEqual(result.bad, {
          notThere: 'NETWORK',
          noModel: 'BAD_MODEL',
          cut: 'BAD_MODEL',
          bytes: 'BAD_MODEL',
          option: 'USAGE',
          noMaps: 'no error',
        });
        assert.equal(result.disposed, 'DISPOSED');
      });
    }
  });
}
