// exitlm.wasm in the real Wasmtime is the native program: the same options, output, errors and exit
// status, and the same tokens and exit layers. Each case runs natively and in both modules; what
// may differ is the clock and the name of the kernel.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { tinyHeads, tinyPath } from '../js/support/tiny-model.mjs';
import { hasReal, program, real, root } from '../js/support/cli.mjs';
import { realHeads } from './support/models.mjs';
import { runtimes } from './support/runtimes.mjs';

const { wasmtime } = runtimes();
const modules = ['exitlm.wasm', 'exitlm-relaxed.wasm'].map((name) =>
  path.join(root, 'build', name),
);
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-wasmtime-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

const put = (/** @type {string} */ name, /** @type {string | Uint8Array} */ content) => {
  fs.mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
  fs.writeFileSync(path.join(folder, name), content);
};

before(async () => {
  const tiny = fs.readFileSync(tinyPath);
  put('tiny.gguf', tiny);
  put('plain/model.gguf', tiny);
  put('heads.exits.gguf', await tinyHeads());
  put('tiny.exits.gguf', await tinyHeads());
  put('cut.gguf', tiny.subarray(0, 150_000));
  put('text.gguf', 'this is not a model\n'.repeat(10));
  put('text.txt', 'It was a bright cold day in April, and the clocks were striking thirteen.\n');
  put('ids.txt', '5 17 300 4\n12');
  if (hasReal) {
    fs.mkdirSync(path.join(folder, 'models'));
    for (const file of [real, realHeads])
      if (fs.existsSync(file)) fs.linkSync(file, path.join(folder, 'models', path.basename(file)));
  }
});

/**
 * Runs a program in the test's folder.
 * @param {string | null} module null: the native program
 * @param {string[]} args
 */
function run(module, args, input = '') {
  const command = module ? [wasmtime, 'run', '--dir', '.', module, ...args] : [program, ...args];
  const result = spawnSync(command[0], command.slice(1), {
    cwd: folder,
    input,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    timeout: 600_000,
  });
  if (result.error) throw result.error;
  return { status: result.status, signal: result.signal, out: result.stdout, err: result.stderr };
}

/** Without what may differ: times, speeds, kernel, and memory, as pointers are half as long. */
const masked = (/** @type {string} */ text) =>
  text
    .replace(
      /"(ms|\w+_ms|tokens_per_second|peak_bytes|model_bytes|session_bytes)":\s*[-\d.e+]+/g,
      '"$1":0',
    )
    .replace(/"kernel":"\w+"/g, '"kernel":"-"')
    .replace(/^memory .*$/m, 'memory')
    .replace(/runs here: [\d.]+ MB/, 'runs here: 0 MB')
    .replace(/[\d.]+ (tokens\/s|tokens a second|ms\b|s\b)/g, '0 $1');

/** @param {string[]} args */
function same(args, { input = '', status = 0 } = {}) {
  // K/V is of 16 bits natively where nothing is said, which WebAssembly has no fast conversion of
  const replies = status === 0 && args[0] === 'chat';
  const kv = replies && !args.includes('--kv-type') && !args.includes('--help');
  const expected = run(null, kv ? [...args, '--kv-type', 'f32'] : args, input);
  const shown = `exitlm ${args.join(' ')}`;
  assert.equal(expected.status, status, `${shown}: ${expected.err}`);
  for (const module of modules) {
    const got = run(module, args, input);
    assert.equal(got.signal, null, shown);
    assert.equal(got.err, expected.err, `${shown}: standard error in ${path.basename(module)}`);
    assert.equal(
      masked(got.out),
      masked(expected.out),
      `${shown}: standard output in ${path.basename(module)}`,
    );
    assert.equal(got.status, expected.status, `${shown}: exit status in ${path.basename(module)}`);
  }
  return expected;
}

const one = ['--threads', '1'];
const hi = ['-p', 'Hi, how are you?', '--max-tokens', '24', '--json', ...one];

describe('help and version', () => {
  test('--version', () => void same(['--version']));
  test('--help', () => void same(['--help']));
  for (const command of [
    'chat',
    'score',
    'inspect',
    'tokenize',
    'pack',
    'bench',
    'train',
    'calibrate',
    'eval',
  ])
    test(`${command} --help`, () => void same([command, '--help']));
});

describe('replies', () => {
  /** @type {Record<string, string[]>} */
  const cases = {
    'with the heads beside the model': [],
    'full': ['--mode', 'full'],
    'exit, the strictest level': ['--mode', 'exit', '--accuracy', '0.95'],
    'exit, a looser level': ['--mode', 'exit', '--accuracy', '0.9'],
    'exit, K/V exact': ['--mode', 'exit', '--accuracy', '0.9', '--kv', 'exact'],
    'exit, audited': ['--mode', 'exit', '--accuracy', '0.9', '--audit', '0.5', '--seed', '3'],
    'lossless, a fixed draft': ['--mode', 'lossless', '--draft-layer', '4', '--draft-length', '3'],
    'sampled': [
      '--temp',
      '0.9',
      '--top-k',
      '40',
      '--top-p',
      '0.95',
      '--min-p',
      '0.02',
      '--repeat-penalty',
      '1.1',
      '--seed',
      '7',
    ],
    'without a template': ['--raw'],
    'with a system prompt': ['--system', 'Answer in rhymes.'],
    'until a stop string': ['--stop', 'lac', '--stop', 'zz'],
    'f16 K/V': ['--kv-type', 'f16'],
    '8-bit K/V': ['--kv-type', 'q8'],
    'a short context': ['--ctx', '24'],
    'heads by name': ['--heads', 'heads.exits.gguf'],
    'a limit of more memory than 32 bits can say': ['--max-memory', String(2 ** 32 + 4096)],
  };
  for (const [name, args] of Object.entries(cases)) {
    test(name, () => {
      const { out } = same(['chat', 'tiny.gguf', ...hi, ...args]);
      const lines = out
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
      assert.equal(lines[0].type, 'start');
      assert.equal(lines.at(-1).type, 'done');
      const early = lines.some((t) => t.type === 'token' && t.head >= 0);
      if (args.includes('maps')) {
        // No row of the table is calibrated with it, and it is not served another policy's.
        assert.equal(early, false);
        assert.equal(lines.at(-1).certified, false);
        assert.match(lines.at(-1).uncertified, /not calibrated with this strategy and K\/V policy/);
      } else if (args.includes('exit')) assert.ok(early, 'tokens left early');
    });
  }
  test('text for a person', () =>
    void same(['chat', 'plain/model.gguf', '-p', 'Hi', '--max-tokens', '8', ...one]));
  test('a conversation from standard input', () =>
    void same(['chat', 'tiny.gguf', '--max-tokens', '8', '--json', ...one], {
      input: 'Hello\nand then?\n',
    }));
});

describe('the other commands', () => {
  test('tokenize', () =>
    void same(['tokenize', 'tiny.gguf', '-p', 'Grüße, 世界! 🙂', '--ids', '--json']));
  test('tokenize standard input', () =>
    void same(['tokenize', 'tiny.gguf'], { input: 'once upon a time' }));
  test('score a text', () =>
    void same(['score', 'tiny.gguf', '-f', 'text.txt', '--top', '3', '--json']));
  test('score ids', () => void same(['score', 'tiny.gguf', '--ids', 'ids.txt', '--json']));
  test('inspect a model', () => void same(['inspect', 'tiny.gguf', '--json']));
  test('inspect heads', () => void same(['inspect', 'heads.exits.gguf', '--json']));
  test('inspect for a person', () => void same(['inspect', 'tiny.gguf']));
  test('bench', () => {
    for (const module of modules) {
      const { status, out, err } = run(module, [
        'bench',
        'tiny.gguf',
        '--prompt-tokens',
        '16',
        '--gen-tokens',
        '8',
        '--reps',
        '1',
        '--json',
        ...one,
      ]);
      assert.equal(status, 0, err);
      const bench = JSON.parse(out);
      assert.equal(bench.type, 'bench');
      assert.match(bench.kernel, module.includes('relaxed') ? /^relaxed/ : /^simd128$/);
      assert.ok(bench.decode.every((/** @type {any} */ d) => d.tokens_per_second > 0));
    }
  });
  test('pack writes the same folder', () => {
    const pack = (/** @type {string | null} */ module, /** @type {string} */ to) => {
      const { status, err } = run(module, ['pack', 'tiny.gguf', '-o', to, '--shard-size', '256K']);
      assert.equal(status, 0, err);
      return Object.fromEntries(
        fs
          .readdirSync(path.join(folder, to))
          .sort()
          .map((f) => [f, fs.readFileSync(path.join(folder, to, f)).toString('base64')]),
      );
    };
    const expected = pack(null, 'packed');
    assert.ok(Object.keys(expected).length >= 3);
    assert.deepEqual(pack(modules[0], 'packed-wasi'), expected);
  });
});

describe('failures', () => {
  /** @type {[string, number, string[]][]} */
  const cases = [
    ['no command', 2, []],
    ['an unknown command', 2, ['sing']],
    ['an unknown option', 2, ['chat', 'tiny.gguf', '--loud']],
    ['a value out of range', 2, ['chat', 'tiny.gguf', '-p', 'x', '--accuracy', '3']],
    ['an unknown mode', 2, ['chat', 'tiny.gguf', '-p', 'x', '--mode', 'fast']],
    ['a missing value', 2, ['chat', 'tiny.gguf', '-p']],
    [
      'heads wanted where there are none',
      2,
      ['chat', 'plain/model.gguf', '-p', 'x', '--mode', 'exit'],
    ],
    ['a model that is not there', 1, ['chat', 'nowhere.gguf', '-p', 'x']],
    ['a folder', 1, ['chat', 'plain', '-p', 'x']],
    ['a file that is no model', 1, ['chat', 'text.gguf', '-p', 'x', '--json']],
    ['a truncated model', 1, ['chat', 'cut.gguf', '-p', 'x', '--json']],
    ['heads where a model is expected', 1, ['chat', 'heads.exits.gguf', '-p', 'x']],
    [
      'a model where heads are expected',
      1,
      ['chat', 'tiny.gguf', '-p', 'x', '--heads', 'plain/model.gguf'],
    ],
    [
      'a prompt longer than the context',
      1,
      ['chat', 'tiny.gguf', '-p', 'one two three four', '--ctx', '4', '--json'],
    ],
    ['ids out of range', 1, ['score', 'tiny.gguf', '--ids', 'text.txt']],
  ];
  for (const [name, status, args] of cases) {
    test(name, () => {
      const expected = run(null, args);
      assert.equal(expected.status === 0, false, name);
      const { err } = same(args, { status: expected.status ?? -1 });
      assert.equal(expected.status, status, err);
      assert.match(err, /^exitlm: [^\n]+\n/);
    });
  }
  test('a folder that was not opened with --dir', () => {
    const { status, out, err } = run(modules[0], ['chat', '/etc/passwd', '-p', 'x']);
    assert.deepEqual([status, out], [1, '']);
    assert.match(err, /^exitlm: \/etc\/passwd: [^\n]+\n$/);
  });
});

test('a reader that goes away ends the program', async () => {
  const child = spawn(
    wasmtime,
    [
      'run',
      '--dir',
      '.',
      modules[0],
      'chat',
      'tiny.gguf',
      '-p',
      'Hi',
      '--json',
      '--max-tokens',
      '400',
      '--ctx',
      '500',
    ],
    { cwd: folder, stdio: ['ignore', 'pipe', 'ignore'] },
  );
  await new Promise((resolve) => child.stdout.once('data', resolve));
  child.stdout.destroy();
  const timer = setTimeout(() => child.kill('SIGKILL'), 60_000);
  const signal = await new Promise((resolve) => child.once('exit', (_, s) => resolve(s)));
  clearTimeout(timer);
  assert.notEqual(signal, 'SIGKILL');
});

describe('the default model', { skip: hasReal ? false : 'npm run model fetches it' }, () => {
  const ask = [
    'chat',
    `models/${path.basename(real)}`,
    '-p',
    'Name three primary colours.',
    '--max-tokens',
    '12',
    '--json',
    ...one,
  ];
  test('full', () => void same([...ask, '--mode', 'full']));
  test(
    'exit',
    { skip: fs.existsSync(realHeads) ? false : 'no heads beside it' },
    () => void same([...ask, '--mode', 'exit', '--accuracy', '0.9']),
  );
});
