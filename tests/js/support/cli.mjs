// Runs the native program, as the tests of the command line do. EXITLM names another build than
// build/exitlm.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';
import { checkReply } from './invariants.mjs';

export const root = fileURLToPath(new URL('../../../', import.meta.url));
export const program = path.resolve(root, process.env.EXITLM ?? 'build/exitlm');
export const tiny = path.join(root, 'tests/data/tiny.gguf');
export const real = path.join(root, 'models/smollm2-135m-instruct.gguf');
export const built = fs.existsSync(program);
export const hasReal = fs.existsSync(real);

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-cli-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

// What tests/make_tiny.c became, beside the program: it writes models that are not committed.
const maker = path.join(path.dirname(program), 'tests/make_tiny');
export const canMake = fs.existsSync(maker);

/** Writes a model with random weights: see tests/make_tiny.c. */
export const makeTiny = (/** @type {string} */ file, /** @type {string[]} */ ...options) =>
  execFileSync(maker, [file, ...options]);

/** A path in this test's own folder; with content the file is written. */
export function scratch(
  /** @type {string} */ name,
  /** @type {string | Buffer | undefined} */ content,
) {
  const file = path.join(folder, name);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  if (content !== undefined) fs.writeFileSync(file, content);
  return file;
}

/**
 * @param {string[]} args
 * @param {{ input?: string | Buffer, env?: Record<string, string>, cwd?: string }} [options]
 */
export function run(args, { input = '', env = {}, cwd = root } = {}) {
  const result = spawnSync(program, args, {
    input,
    cwd,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    env: { ...process.env, ...env },
    timeout: 120000,
  });
  if (result.error) throw result.error;
  return { status: result.status, signal: result.signal, out: result.stdout, err: result.stderr };
}

/** The output of a run that has to succeed without a word on standard error. */
export function good(/** @type {string[]} */ args, options = {}) {
  const { status, out, err } = run(args, options);
  assert.equal(err, '', args.join(' '));
  assert.equal(status, 0, args.join(' '));
  return out;
}

/** The objects of a run with --json. */
export function objects(/** @type {string[]} */ args, options = {}) {
  return lines(good([...args, '--json'], options));
}

export function lines(/** @type {string} */ out) {
  assert.ok(out.endsWith('\n'), 'the last line ends');
  return out
    .slice(0, -1)
    .split('\n')
    .map((line) => JSON.parse(line));
}

/**
 * A run that has to fail: this status, nothing on standard output, one line on standard error that
 * matches.
 */
export function bad(
  /** @type {number} */ status,
  /** @type {RegExp} */ says,
  /** @type {string[]} */ args,
  options = {},
) {
  const result = run(args, options);
  const shown = `exitlm ${args.join(' ')}`;
  assert.equal(result.signal, null, shown);
  assert.match(result.err, /^exitlm: [^\n]+\n$/, shown);
  assert.match(result.err, says, shown);
  assert.equal(result.status, status, `${shown}: ${result.err}`);
  assert.equal(result.out, '', shown);
  return result.err;
}

/** One reply of `chat --json`. */
export function chat(/** @type {string} */ model, /** @type {string[]} */ ...args) {
  return reply(objects(['chat', model, ...args]));
}

export function reply(/** @type {any[]} */ all) {
  const start = all[0],
    done = all.at(-1),
    tokens = all.slice(1, -1);
  assert.equal(start.type, 'start');
  assert.equal(done.type, 'done');
  assert.ok(tokens.every((t) => t.type === 'token'));
  assert.equal(tokens.length, done.completion_tokens);
  checkReply(
    {
      ...done,
      usage: {
        promptTokens: done.prompt_tokens,
        reusedTokens: done.reused_tokens,
        completionTokens: done.completion_tokens,
      },
      meanDepth: done.mean_depth,
      meanWork: done.mean_work,
    },
    start.mode,
  );
  return { start, tokens, done, ids: tokens.map((t) => t.id) };
}
