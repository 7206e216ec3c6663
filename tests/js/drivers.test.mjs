// tools/scale: shards by Ray, by GNU parallel and as a Slurm array, on the tiny model, with a worker
// that is killed the first time. Each ends in the heads of one command, byte for byte.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { bad, built, good, program, root, scratch, tiny } from './support/cli.mjs';
import { parallel, python, ray } from './support/drivers.mjs';

const heads = ['--layers', '6', '--rows', '64', '--vocabulary-rows', '128', '--batch', '64'];
const plan = ['--self-chat', '12', '--reply-tokens', '8'];
const options = [...heads, '--epochs', '1', '--map-tokens', '1000', '-q'];
const NO_CLUSTER = 75; // of ray_shards.py
const tool = (/** @type {string} */ name) => path.join(root, 'tools/scale', name);

describe('drivers of shards', { skip: !built && 'the program is not built' }, () => {
  /** The program; shard 2/3 kills itself the first time. @param {string} name */
  const flaky = (name) => {
    const mark = scratch(`${name}.mark`);
    const file = scratch(
      `${name}.sh`,
      `#!/bin/sh\ncase " $* " in *" 2/3 "*) [ -e ${mark} ] || { touch ${mark}; kill -KILL $$; } ;; esac\nexec ${program} "$@"\n`,
    );
    fs.chmodSync(file, 0o755);
    return [file, 'gather', tiny, ...plan];
  };
  const run = (
    /** @type {string} */ command,
    /** @type {string[]} */ args,
    /** @type {Record<string, string>} */ env,
  ) =>
    spawnSync(command, args, {
      encoding: 'utf8',
      env: { ...process.env, ...env },
      timeout: 300_000,
    });
  const parts = (/** @type {string} */ name) => [1, 2, 3].map((i) => scratch(`${name}.${i}`));
  /** @type {Buffer} */ let whole;
  const same = (/** @type {string} */ name) => {
    const file = scratch(`${name}.exits.gguf`);
    good(['train', tiny, '-o', file, ...options, '--gathered', ...parts(name)]);
    assert.ok(fs.readFileSync(file).equals(whole));
  };
  before(() => {
    const file = scratch('whole.exits.gguf');
    good(['train', tiny, '-o', file, ...options, ...plan]);
    whole = fs.readFileSync(file);
  });

  const withRay = ray();
  test('Ray', { skip: withRay.skip }, (t) => {
    const args = [tool('ray_shards.py'), '-n', '3', '-o', scratch('ray'), '--local-cpus', '2'];
    const result = run(python, [...args, '--', ...flaky('ray')], withRay.env);
    // a busy machine does not get a cluster started within Ray's patience
    if (result.signal || result.status === NO_CLUSTER) {
      t.skip(`Ray did not start a cluster: ${result.stderr.trim().split('\n').at(-1)}`);
      return;
    }
    assert.equal(result.status, 0, result.stderr);
    assert.match(result.stdout, /shard 2\/3, 4 of 12 conversations/);
    same('ray');
  });

  const withParallel = parallel();
  test('GNU parallel', { skip: withParallel.skip }, () => {
    const sh = [tool('parallel-shards.sh'), '3', scratch('parallel'), ...flaky('parallel')];
    const result = run('sh', sh, withParallel.env);
    assert.equal(result.status, 0, result.stderr);
    same('parallel');
    // what is done is not done again
    fs.rmSync(scratch('parallel.mark'));
    assert.equal(run('sh', sh, withParallel.env).status, 0);
    assert.ok(!fs.existsSync(scratch('parallel.mark')));
  });

  test('the body of a Slurm array, for every index', () => {
    const task = (/** @type {number} */ i) =>
      run('sh', [tool('slurm-shards.sh'), scratch('slurm'), ...flaky('slurm')], {
        SLURM_ARRAY_TASK_ID: String(i),
        SLURM_ARRAY_TASK_COUNT: '3',
        SLURM_CPUS_PER_TASK: '1',
      });
    assert.deepEqual(
      [1, 2, 3].map((i) => task(i).signal),
      [null, 'SIGKILL', null],
    );
    const [one, , three] = parts('slurm');
    const train = ['train', tiny, '-o', scratch('x.gguf'), ...options, '--gathered'];
    bad(1, /1 of 3 parts are missing: shard 2\/3/, [...train, one, three]);
    assert.equal(task(2).status, 0);
    same('slurm');
    const outside = run('sh', [tool('slurm-shards.sh'), 'x', program], { SLURM_ARRAY_TASK_ID: '' });
    assert.match(outside.stderr, /this is the body of an array/);
  });
});
