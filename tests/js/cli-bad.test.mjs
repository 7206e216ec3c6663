// Bad input to the command line: for each kind a clear sentence and the right exit status; never a
// signal, a hang or output.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import {
  bad,
  built,
  chat,
  good,
  hasReal,
  objects,
  program,
  real,
  run,
  scratch,
  tiny,
} from './support/cli.mjs';

const commands = (/** @type {string} */ model) => [
  ['chat', model, '-p', 'a', '--max-tokens', '2'],
  ['inspect', model],
  ['tokenize', model, '-p', 'a'],
  ['score', model, '--ids', scratch('ids.txt', '1 2 3')],
  ['bench', model],
];

/** The tiny model with bytes of it changed. */
function patched(/** @type {string} */ name, /** @type {(bytes: Buffer) => void} */ change) {
  const bytes = fs.readFileSync(tiny);
  change(bytes);
  return scratch(name, bytes);
}

/** Where the bytes that follow a name (a length-prefixed string of the file) begin. */
function after(/** @type {Buffer} */ bytes, /** @type {string} */ name) {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(name.length));
  const at = bytes.indexOf(Buffer.concat([length, Buffer.from(name)]));
  assert.ok(at > 0, `${name} stands in the file`);
  return at + 8 + name.length;
}

describe('bad input', { skip: !built && 'the program is not built' }, () => {
  test('the server is of the npm package', () => {
    bad(1, /npx exitlm serve MODEL/, ['serve', tiny]);
  });

  test('a missing file, a directory, an empty file, a file that is no GGUF', () => {
    for (const args of commands(scratch('missing.gguf')))
      bad(1, /missing\.gguf: no such file/, args);
    for (const args of commands(path.dirname(scratch('directory.gguf/x', ''))))
      bad(1, /directory\.gguf: is a directory/, args);
    for (const args of commands(scratch('empty.gguf', '')))
      bad(1, /empty\.gguf: the file is empty/, args);
    for (const args of commands(scratch('text.gguf', 'Hello, I am no model.')))
      bad(1, /text\.gguf: not a GGUF file/, args);
    for (const args of commands(scratch('zip.gguf', Buffer.from('PK\x03\x04aaaaaaaaaaaa'))))
      bad(1, /zip\.gguf: .*not a GGUF file/, args);
    bad(1, /absent\.txt: no such file|cannot be opened: No such file/, [
      'tokenize',
      tiny,
      '-f',
      scratch('absent.txt'),
    ]);
    bad(1, /is a directory/, ['score', tiny, '-f', path.dirname(tiny)]);
  });

  test(
    'a file that no one may read',
    { skip: process.getuid?.() === 0 && 'root may read everything' },
    () => {
      const file = scratch('secret.gguf', 'GGUF');
      fs.chmodSync(file, 0);
      bad(1, /Permission denied/, ['chat', file, '-p', 'a']);
    },
  );

  test('truncated: the tensor, its bytes, its offset, the end of the file', () => {
    const bytes = fs.readFileSync(tiny);
    const cut = (/** @type {number} */ n) => scratch('cut.gguf', bytes.subarray(0, n));
    const says = bad(
      1,
      /cut\.gguf: truncated: tensor \S+ needs \d+ bytes at offset \d+, the file ends at 150000/,
      ['chat', cut(150000), '-p', 'a'],
    );
    assert.equal(bad(1, /truncated/, ['inspect', cut(150000)]), says, 'inspect says the same');
    const header = objects(['inspect', tiny])[0].header_bytes;
    const lengths = [
      ...Array.from({ length: 64 }, (_, i) => i + 1),
      ...Array.from({ length: 60 }, (_, i) => 64 + Math.floor((header * i) / 60)),
      ...Array.from(
        { length: 60 },
        (_, i) => header + Math.floor(((bytes.length - header) * i) / 60),
      ),
      bytes.length - 33,
    ];
    for (const n of lengths) {
      bad(1, n < 4 ? /cut\.gguf: / : /cut\.gguf: truncated: .*ends at \d+/, [
        'chat',
        cut(n),
        '-p',
        'a',
      ]);
      // a header alone is enough for inspect, with its padding or without
      if (n < header - 31 || n > header) bad(1, /cut\.gguf: /, ['inspect', cut(n)]);
    }
  });

  test('an unknown quantisation, and one that only this program does not know', () => {
    const retype = (/** @type {number} */ type) => (/** @type {Buffer} */ b) => {
      const at = after(b, 'blk.0.attn_q.weight');
      b.writeUInt32LE(type, at + 4 + 8 * b.readUInt32LE(at));
    };
    const says = /blk\.0\.attn_q\.weight/;
    bad(1, says, ['chat', patched('type99.gguf', retype(99)), '-p', 'a']);
    bad(1, says, ['chat', patched('type4.gguf', retype(4)), '-p', 'a']);
    // IQ2_XXS (16): blocks of 256 do not fit 64 columns either, but never a crash.
    bad(1, says, ['chat', patched('type16.gguf', retype(16)), '-p', 'a']);
  });

  test('an unknown architecture: what it is and what is supported', () => {
    const file = patched('arch.gguf', (b) => {
      b.write('lxxma', after(b, 'general.architecture') + 4 + 8);
    });
    bad(1, /lxxma.*llama/, ['chat', file, '-p', 'a']);
    const [info] = objects(['inspect', file]);
    assert.deepEqual([info.supported, info.arch], [false, 'lxxma']);
    assert.match(info.reason, /lxxma/);
    assert.match(good(['inspect', file]), /not supported/);
  });

  test('keys of the wrong type or value', () => {
    const key = (
      /** @type {string} */ name,
      /** @type {(b: Buffer, at: number) => void} */ change,
    ) => patched('key.gguf', (b) => change(b, after(b, name)));
    const cases = /** @type {[string, (b: Buffer, at: number) => void][]} */ ([
      ['llama.block_count', (b, at) => b.writeUInt32LE(0, at + 4)],
      ['llama.block_count', (b, at) => b.writeUInt32LE(0xffffffff, at + 4)],
      ['llama.block_count', (b, at) => b.writeUInt32LE(6, at)], // f32
      ['llama.block_count', (b, at) => b.writeUInt32LE(77, at)], // no type
      ['llama.embedding_length', (b, at) => b.writeUInt32LE(96, at + 4)],
      ['llama.attention.head_count', (b, at) => b.writeUInt32LE(0, at + 4)],
      ['tokenizer.ggml.tokens', (b, at) => b.writeBigUInt64LE(1n << 60n, at + 8)],
    ]);
    for (const [name, change] of cases)
      bad(1, /^exitlm: [^\n]*key\.gguf: /, ['chat', key(name, change), '-p', 'a']);
    for (const count of [8, 16]) {
      // of tensors, of keys
      const file = patched('count.gguf', (b) => {
        b.writeBigUInt64LE(1n << 62n, count);
      });
      bad(1, /count\.gguf: /, ['chat', file, '-p', 'a']);
    }
    bad(1, /version/, [
      'chat',
      patched('version.gguf', (b) => {
        b.writeUInt32LE(99, 4);
      }),
      '-p',
      'a',
    ]);
  });

  test('random damage to the header never ends in a signal', () => {
    let state = 12345;
    const random = (/** @type {number} */ n) => {
      state = (state * 1103515245 + 12345) % 2147483648;
      return state % n;
    };
    const header = objects(['inspect', tiny])[0].header_bytes;
    for (let i = 0; i < 150; i++) {
      const file = patched('damaged.gguf', (b) => {
        for (let k = 0; k < 3; k++) b[random(header)] = random(256);
      });
      const { status, signal, err } = run(['chat', file, '-p', 'hello', '--max-tokens', '2']);
      assert.equal(signal, null, `damage ${i}`);
      assert.ok(status === 0 || status === 1, `damage ${i}: ${status}`);
      if (status) assert.match(err, /^exitlm: [^\n]+\n$/);
    }
  });

  test('text of a file cannot command the terminal', () => {
    const controls = /[\x00-\x09\x0b-\x1f\x7f-\x9f]/;
    for (const architecture of ['\x1b[2Jx', '\x9b2Jx', '\x7fabcd']) {
      const file = patched('\u001b]0;evil.gguf', (b) => {
        assert.equal(b.write(architecture, after(b, 'general.architecture') + 12), 5);
      });
      assert.doesNotMatch(bad(1, /./, ['chat', file, '-p', 'a']), controls);
      assert.doesNotMatch(good(['inspect', file]), controls);
    }
  });

  test('a prompt that is longer than the context', () => {
    bad(1, /prompt has \d+ tokens.*context holds 16/, [
      'chat',
      tiny,
      '-p',
      'word '.repeat(50),
      '--ctx',
      '16',
    ]);
    const { status, out, err } = run(['chat', tiny, '-p', 'word '.repeat(2000), '--json']);
    assert.deepEqual([status, out], [1, '']);
    assert.match(err, /context/);
    const last = chat(tiny, '-p', 'hello', '--ctx', '20').done;
    assert.deepEqual(
      [last.reason, last.prompt_tokens + last.completion_tokens <= 20 + 1],
      ['length', true],
      'an answer ends with the context',
    );
  });

  test('too little memory: --max-memory, and a real limit', () => {
    bad(1, /memory/, ['chat', tiny, '-p', 'a', '--max-memory', '100K']);
    bad(1, /--max-memory allows 716800/, ['chat', tiny, '-p', 'a', '--max-memory', '700K']);
    assert.equal(
      run(['chat', tiny, '-p', 'a', '--max-memory', '10M', '--max-tokens', '1']).status,
      0,
    );
    if (!hasReal || /asan|sanitize/.test(program)) return;
    for (const limit of [20000, 60000, 120000, 150000]) {
      // KiB
      const { status, signal, stdout, stderr } = spawnSync(
        'sh',
        [
          '-c',
          `ulimit -v ${limit}; exec "$0" "$@"`,
          program,
          'chat',
          real,
          '-p',
          'a',
          '--heads',
          'none',
          '--max-tokens',
          '1',
          '--ctx',
          '2048',
        ],
        { encoding: 'utf8' },
      );
      assert.deepEqual([status, signal, stdout], [1, null, ''], `${limit}: ${stderr}`);
      assert.match(stderr, /^exitlm: [^\n]*memory[^\n]*\n$/, String(limit));
    }
  });

  test(
    'the real model, cut where the contract shows it',
    { skip: !hasReal && 'needs the real model' },
    () => {
      const file = scratch('model.gguf');
      const bytes = Buffer.alloc(67180000);
      const from = fs.openSync(real, 'r');
      fs.readSync(from, bytes, 0, bytes.length, 0);
      fs.closeSync(from);
      fs.writeFileSync(file, bytes);
      bad(
        1,
        /model\.gguf: truncated: tensor blk\.\d+\.\S+ needs \d+ bytes at offset \d+, the file ends at 67180000/,
        ['chat', file, '-p', 'a'],
      );
    },
  );
});
