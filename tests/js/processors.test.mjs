// The program on processors that lack what this one has, as qemu pretends: no instruction that they
// do not know, and the same answers.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import os from 'node:os';
import { describe, test } from 'node:test';
import { built, lines, program, root, run, scratch, tiny } from './support/cli.mjs';
import { tinyHeads } from './support/tiny-model.mjs';

const qemu = 'qemu-x86_64';
const skip =
  (os.arch() !== 'x64' && 'for x86-64') ||
  (!built && 'the program is not built') ||
  (spawnSync(qemu, ['--version']).status !== 0 && `no ${qemu}, of Debian's package qemu-user`);

/** @param {string} out of `chat --json` */
const said = (out) => {
  const events = lines(out);
  return {
    kernel: events[0].kernel,
    tokens: events
      .filter(({ type }) => type === 'token')
      .map(({ id, layer, confidence }) => ({ id, layer, confidence })),
  };
};

describe('processors', { skip }, () => {
  for (const [cpu, kernel] of [
    ['qemu64,-pni,-cx16,-lahf-lm', 'scalar'], // SSE2 alone, as the first x86-64
    ['Haswell', 'avx2'],
  ])
    test(`${cpu}: ${kernel}`, async () => {
      const heads = scratch('tiny.exits.gguf', await tinyHeads());
      for (const mode of ['exit', 'lossless']) {
        const args = ['chat', tiny, '-p', 'Hi', '--heads', heads, '--mode', mode, '--json'];
        args.push('--max-tokens', '24', '--temp', '0.8', '--seed', '3', '--kv-type', 'q8');
        const { status, signal, stdout, stderr } = spawnSync(
          qemu,
          ['-cpu', cpu, program, ...args],
          { cwd: root, encoding: 'utf8' },
        );
        assert.deepEqual([status, signal], [0, null], stderr);
        const there = said(stdout);
        assert.equal(there.kernel, kernel);
        assert.ok(there.tokens.length > 8);
        assert.deepEqual(there.tokens, said(run(args).out).tokens, mode);
      }
    });
  test('an instruction set that is not there is refused', () => {
    const { status, stderr } = spawnSync(
      qemu,
      ['-cpu', 'qemu64', program, 'chat', tiny, '-p', 'Hi', '--kernel', 'avx2'],
      { cwd: root, encoding: 'utf8' },
    );
    assert.equal(status, 2, stderr);
    assert.match(stderr, /avx2/);
  });
});
