// The kinds of bug that GGUF files, and what is said to a model, have set off in other programs from
// 2024 to 2026: for each a small file or request, named by its CVE, advisory or issue (llama.cpp's
// where no other project is named). Here each has to end in a sentence, or to do no harm.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ExitLM, ExitLMError } from '../../web/src/index.js';
import { built, program, run, scratch } from './support/cli.mjs';
import { code } from './support/errors.mjs';
import {
  ARRAY,
  BOOL,
  F32,
  ggufFile,
  key,
  STRING,
  text,
  U32,
  u32,
  U64,
  u64,
  vocabularyKeys,
} from './support/gguf.mjs';
import { headsFile } from './support/heads-file.mjs';
import { modelServer } from './support/model-server.mjs';
import { loadTiny, tinyBytes, tinyPath } from './support/tiny-model.mjs';

const MOST = 2n ** 64n - 1n;

/** Keys of a small model. @param {Record<string, any>} [others] */
function modelKeys(others = {}) {
  const sizes = {
    'block_count': 1,
    'embedding_length': 32,
    'feed_forward_length': 32,
    'attention.head_count': 1,
    'context_length': 64,
    ...others,
  };
  return [
    key('general.architecture', 'llama'),
    ...Object.entries(sizes).map(([name, value]) => key(`llama.${name}`, value)),
    key('llama.attention.layer_norm_rms_epsilon', 1e-5, F32),
    ...vocabularyKeys(),
  ];
}

/** SentencePiece's vocabulary with further tokens. @param {string[]} more @param {number} type */
function spokenKeys(more, type) {
  const tokens = ['<unk>', '<s>', '</s>', 'a', ...more];
  return [
    key('general.architecture', 'none'),
    key('tokenizer.ggml.model', 'llama'),
    key('tokenizer.ggml.tokens', tokens),
    key('tokenizer.ggml.token_type', [2, 3, 3, 1, ...more.map(() => type)]),
    key(
      'tokenizer.ggml.scores',
      tokens.map(() => 0),
      F32,
    ),
  ];
}

/** The tiny model with the number behind a key changed. */
function tinyWith(/** @type {string} */ name, /** @type {number} */ value) {
  const bytes = Buffer.from(tinyBytes);
  const at = bytes.indexOf(text(name)) + 8 + name.length;
  assert.equal(bytes.readUInt32LE(at), U32, name);
  bytes.writeUInt32LE(value, at + 4);
  return bytes;
}

/** The tiny model with the offset of a tensor changed. */
function tinyMoved(/** @type {string} */ name, /** @type {bigint} */ offset) {
  const bytes = Buffer.from(tinyBytes);
  const at = bytes.indexOf(text(name)) + 8 + name.length;
  bytes.writeBigUInt64LE(offset, at + 4 + 8 * bytes.readUInt32LE(at) + 4);
  return bytes;
}

const embedding = { name: 'token_embd.weight', dims: [32, 261], type: 0 };
const tensor = (/** @type {any} */ of) => ggufFile(modelKeys(), [{ ...embedding, ...of }]);
const bad = ['BAD_MODEL', 'UNSUPPORTED'];

/** @type {[title: string, bytes: Buffer, says: RegExp][]} */
const files = [
  // 1: counts
  ['CVE-2024-23605: 2^64 - 1 keys', ggufFile([], [], { nKeys: MOST }), /keys/],
  ['CVE-2024-21836: 2^61 tensors', ggufFile(modelKeys(), [], { nTensors: 2n ** 61n }), /tensors/],
  // 2: lengths
  [
    'CVE-2024-23496: the length of a key wraps around',
    Buffer.concat([Buffer.from('GGUF'), u32(3), u64(0), u64(1), u64(MOST), Buffer.alloc(64)]),
    /name/,
  ],
  [
    'CVE-2024-21802: an array of 2^61 items',
    ggufFile([{ name: 'x', type: ARRAY, value: Buffer.concat([u32(U64), u64(2n ** 61n)]) }]),
    /array/,
  ],
  [
    'CVE-2024-21825: a text of 2^64 - 1 bytes',
    ggufFile([{ name: 'x', type: STRING, value: u64(MOST) }]),
    /text/,
  ],
  // 3: a tensor's bytes
  [
    'CVE-2026-33298: dimensions whose product wraps around',
    tensor({ dims: [2n ** 32n, 2n ** 32n, 2], type: 1 }),
    /dimension/,
  ],
  ['#27203: a negative dimension', tensor({ dims: [32, -1n] }), /dimension/],
  // 4: the sum
  [
    'CVE-2025-53630, CVE-2026-27940: a sum of sizes that wraps around',
    ggufFile(modelKeys(), [
      { name: 'a', dims: [2n ** 43n], offset: 0 },
      { name: 'b', dims: [2n ** 43n], offset: 2n ** 64n - 2n ** 45n },
    ]),
    /offset/,
  ],
  ['#26318: padding that wraps around', tensor({ offset: MOST - 30n }), /offset|aligned/],
  // 5: nothing where something must be
  ['PR#25596: a dimension of 0', tensor({ dims: [0, 261] }), /dimension/],
  ['#24263: a key without a name', ggufFile([key('', 1)]), /name/],
  // 6: alignment, number of dimensions
  ...[0, 3, 2 ** 31].map(
    (n) =>
      /** @type {[string, Buffer, RegExp]} */ ([
        `PR#25596: an alignment of ${n}`,
        ggufFile([key('general.alignment', n)], [embedding]),
        /alignment/,
      ]),
  ),
  [
    'PR#25596: an alignment that is a text',
    ggufFile([key('general.alignment', '32')], [embedding]),
    /alignment/,
  ],
  [
    'oss-security 2026-05-15 V-01: 2^32 - 1 dimensions',
    Buffer.concat([
      ggufFile([], [], { nTensors: 1, alignment: 1 }),
      text('a'),
      u32(0xffffffff),
      Buffer.alloc(64),
    ]),
    /dimensions/,
  ],
  // 7: types of items
  ...[
    ['tokens', key('tokenizer.ggml.tokens', [1, 2, 3])],
    ['scores', key('tokenizer.ggml.scores', ['a', 'b'])],
    ['token_type', key('tokenizer.ggml.token_type', [1, 1], F32)],
    ['merges', key('tokenizer.ggml.merges', [true, false], BOOL)],
  ].map(
    ([name, other]) =>
      /** @type {[string, Buffer, RegExp]} */ ([
        `PR#26690: ${name} of another type`,
        ggufFile([
          ...modelKeys().filter((k) => k.name !== /** @type {any} */ (other).name),
          /** @type {any} */ (other),
        ]),
        new RegExp(`tokenizer.ggml.${name}`),
      ]),
  ),
  // 8: a table of characters that is too short
  [
    'PR#25258, #18750: precompiled_charsmap of 2 bytes',
    ggufFile([
      ...modelKeys().filter((k) => k.name !== 'tokenizer.ggml.model'),
      key('tokenizer.ggml.model', 't5'),
      key('tokenizer.ggml.precompiled_charsmap', [0xff, 0xff], 0),
    ]),
    /t5/,
  ],
  // 11: layers and attention heads
  ...[
    ['block_count', 0xffffffff],
    ['block_count', 513],
    ['attention.head_count', 0],
    ['attention.head_count', 0xffffffff],
    ['attention.head_count_kv', 0],
    ['attention.head_count_kv', 3],
  ].map(
    ([name, value]) =>
      /** @type {[string, Buffer, RegExp]} */ ([
        `#25821, #26051: ${name} is ${value}`,
        tinyWith(`llama.${name}`, Number(value)),
        /head_count|block_count|missing/,
      ]),
  ),
  // 12: weights outside the file
  [
    'CVE-2026-7482 (Ollama), mlx#4213: an offset behind the end of the file',
    tinyMoved('output_norm.weight', 2n ** 40n),
    /truncated|overlap/,
  ],
  [
    'CVE-2026-7482 (Ollama): a tensor over another one',
    tinyMoved('output_norm.weight', 0n),
    /overlap/,
  ],
];

describe('files', () => {
  for (const [title, bytes, says] of files) {
    test(title, async () => {
      await assert.rejects(
        (async () => {
          const lm = await ExitLM.load(bytes, { worker: false, heads: false });
          await lm.ready;
        })(),
        (error) => {
          assert.ok(error instanceof ExitLMError && bad.includes(error.code), String(error));
          assert.match(error.message, says);
          return true;
        },
      );
      if (!built) return;
      const file = scratch('known.gguf', bytes);
      for (const args of [
        ['chat', file, '-p', 'a', '--max-tokens', '1'],
        ['tokenize', file, '-p', 'a'],
        ['inspect', file],
      ]) {
        const { status, signal, out, err } = run(args);
        assert.equal(signal, null, `${program} ${args[0]}`);
        assert.ok(status === 0 || status === 1, `${args[0]}: ${status}`);
        if (args[0] === 'chat') assert.equal(status, 1);
        if (status) assert.match(err, /^exitlm: [^\n]+\n$/);
        else assert.ok(args[0] === 'tokenize' || !/runs here/.test(out), out);
      }
    });
  }
});

describe('vocabularies', () => {
  const names = ['<0x-1>', '<0x1FF>', '<0x>', '<0xGG>', '<0x', '0x41', '<0x4294967297>'];
  // refused with these words, or (null) read, without harm
  for (const [title, keys, says] of /** @type {[string, any[], RegExp | null][]} */ ([
    // 9: byte tokens
    ['#27226, #25969: byte tokens that name no byte', spokenKeys(names, 6), null],
    ['#26511: types and ids out of range', spokenKeys(names, -1), null],
    // 10: long texts
    [
      'CVE-2025-49847, CVE-2025-52566: a token of 64 KiB',
      spokenKeys(['x'.repeat(65536)], 1),
      /65536 bytes long/,
    ],
    [
      'CVE-2025-49847: a control token of 64 KiB',
      spokenKeys(['x'.repeat(65536)], 3),
      /65536 bytes long/,
    ],
  ])) {
    test(title, async () => {
      const bytes = ggufFile(keys);
      const loading = ExitLM.load(bytes, { vocabularyOnly: true, worker: false });
      if (says) await assert.rejects(loading, code('BAD_MODEL', says));
      else {
        const lm = await loading;
        const ids = await lm.tokenize('a<0x-1>b\u0001\uffff', { special: true });
        assert.ok(ids.every((id) => id >= 0 && id < lm.info.vocabulary));
        const all = Array.from({ length: lm.info.vocabulary }, (_, id) => id);
        assert.ok((await lm.detokenize(all)).length > 0);
        await assert.rejects(lm.detokenize([-1]), { code: 'USAGE' });
        await assert.rejects(lm.detokenize([2 ** 31 - 1]), { code: 'USAGE' });
        await lm.dispose();
      }
      if (!built) return;
      const { status, signal } = run(['tokenize', scratch('v.gguf', bytes), '-p', 'a<0x-1>\u0001']);
      assert.equal(signal, null);
      assert.equal(status, says ? 1 : 0);
    });
  }
});

// 12, on a server that lies of its length
test('CVE-2026-7482 (Ollama): a server that says another length than it sends', async () => {
  const server = await modelServer(
    { '/tiny.gguf': tinyBytes },
    { ranges: false, headers: { 'x-lie': '1' }, cutAfter: () => tinyBytes.length - 4096 },
  );
  await assert.rejects(
    (async () => {
      const lm = await ExitLM.load(`${server.address}/tiny.gguf`, {
        worker: false,
        heads: false,
        cache: 'none',
        signal: AbortSignal.timeout(3000),
      });
      await lm.ready;
    })(),
  );
  await server.close();
});

// 13: chat templates
describe('chat templates', () => {
  const withTemplate = (/** @type {string} */ template) =>
    ggufFile([...vocabularyKeys(), key('tokenizer.chat_template', template)]);
  const render = async (/** @type {string} */ template) => {
    const lm = await ExitLM.load(withTemplate(template), { vocabularyOnly: true, worker: false });
    try {
      return await lm.countTokens([{ role: 'user', content: 'hello' }]);
    } finally {
      await lm.dispose();
    }
  };
  test('#19085, #26387: nested too deeply', async () => {
    for (const template of [
      `{{ ${'('.repeat(20000)}1${')'.repeat(20000)} }}`,
      `${'{% if true %}'.repeat(20000)}${'{% endif %}'.repeat(20000)}`,
      '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}',
    ])
      await assert.rejects(render(template), ExitLMError);
  });
  test('one that would not end, or take all memory', async () => {
    const doubled = (/** @type {string} */ twice) =>
      `{% set ns = namespace(x=['a', 'b'], y='ab') %}{% for i in range(40) %}{% set ${twice} %}{% endfor %}{{ ns.x | tojson }}`;
    for (const endless of [
      '{{ range(10**9) }}',
      '{{ range(0, 10**9, 3) | length }}',
      '{% for i in range(10**6) %}{% for j in range(10**6) %}{{ j }}{% endfor %}{% endfor %}',
      doubled('ns.x = ns.x + ns.x'),
      doubled('ns.x = [ns.x, ns.x]'),
      doubled('ns.y = ns.y ~ ns.y'),
    ])
      await assert.rejects(
        render(endless),
        (error) =>
          error instanceof ExitLMError &&
          error.code === 'USAGE' &&
          /chat template refuses .*(does not come to an end|range\(\) of|Invalid string length)/.test(
            error.message,
          ),
        endless,
      );
    assert.ok((await render('{% for i in range(9, 0, -1) %}{{ i }}{% endfor %}')) > 0);
  });
  test('one that takes too long', async (t) => {
    const slow = '{% for i in range(100) %}{{ i }}{% endfor %}';
    assert.ok((await render(slow)) > 0);
    let clock = 0;
    t.mock.method(performance, 'now', () => (clock += 100));
    await assert.rejects(render(slow), { code: 'USAGE', message: /within \d+ steps and 10000 ms/ });
  });
  test('CVE-2026-5760 (SGLang), #24140: a template reaches nothing outside', async () => {
    for (const template of [
      "{{ messages.constructor.constructor('return globalThis.exitlmReached = 1')() }}",
      "{{ ''.__class__.__mro__[1].__subclasses__() }}",
      "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
      "{% set f = messages['constructor']['constructor'] %}{{ f('globalThis.exitlmReached = 1')() }}",
    ])
      await render(template).catch((error) => assert.ok(error instanceof ExitLMError));
    assert.equal(/** @type {any} */ (globalThis).exitlmReached, undefined);
  });
  test('#24140: what a message says is no template', async () => {
    const lm = await ExitLM.load(withTemplate('{{ messages[0].content }}'), {
      vocabularyOnly: true,
      worker: false,
    });
    const content = '{{ 7 * 7 }}{% raw %}';
    assert.equal(
      await lm.countTokens([{ role: 'user', content }]),
      (await lm.tokenize(content)).length,
    );
    await lm.dispose();
  });
});

// 14: restored state
test('CVE-2026-43629: a saved conversation that lies', async () => {
  const lm = await loadTiny();
  await lm.ready;
  const session = lm.session();
  await session.complete('The quick brown fox', { maxTokens: 4 }).result;
  const bytes = await session.save();
  await session.dispose();
  for (let at = 0; at < Math.min(bytes.length, 400); at += 4) {
    const lying = bytes.slice();
    new DataView(lying.buffer).setUint32(at, 0xffffffff, true);
    await assert.rejects(lm.restore(lying), ExitLMError, `byte ${at}`);
  }
  for (const lying of [bytes.slice(0, 40), Buffer.concat([bytes, bytes]), new Uint8Array(1 << 20)])
    await assert.rejects(lm.restore(lying), ExitLMError);
  const restored = await lm.restore(bytes);
  await restored.dispose();
  await lm.dispose();
});

// 15, 16: what a request asks for
describe('requests', () => {
  const wrong = [-1, NaN, Infinity, 1e308, 2 ** 53, -(2 ** 31), 0.5, '7', null, {}];
  test('CVE-2026-21869, #24063: numbers out of range', async () => {
    const lm = await loadTiny();
    for (const name of ['maxTokens', 'topK', 'draftLength', 'draftLayer', 'maxDraft', 'seed'])
      for (const value of wrong) {
        const options = { maxTokens: 2, [name]: value };
        const result = lm.complete('a', /** @type {any} */ (options)).result;
        await result.catch((error) =>
          assert.ok(error instanceof ExitLMError && error.code === 'USAGE', `${name}: ${error}`),
        );
      }
    for (const name of ['temperature', 'topP', 'minP', 'repeatPenalty', 'accuracy', 'audit'])
      for (const value of [-1, NaN, 1e308, 'x', {}])
        await assert.rejects(
          lm.complete('a', /** @type {any} */ ({ maxTokens: 2, [name]: value })).result,
          { code: 'USAGE' },
          `${name}: ${value}`,
        );
    const { usage } = await lm.complete('a', { maxTokens: 2 }).result;
    assert.ok(usage.completionTokens <= 2, 'it goes on working');
    await lm.dispose();
    for (const contextLength of [-1, 0, 0.5, 2 ** 53])
      await assert.rejects(ExitLM.load(tinyPath, { contextLength, worker: false, heads: false }), {
        code: 'USAGE',
      });
  });
  test('#22234: grammars that nest or repeat without end', async () => {
    const lm = await loadTiny();
    const deep = { $defs: { a: { $ref: '#/$defs/a' } }, $ref: '#/$defs/a' };
    for (const shape of [
      { pattern: new RegExp(`${'('.repeat(5000)}a${')'.repeat(5000)}`) },
      { pattern: /(((a{1000}){1000}){1000}){1000}/ },
      { schema: deep },
      { schema: { type: 'array', items: { type: 'string' }, minItems: 2 ** 40 } },
    ])
      await assert.rejects(lm.complete('a', { maxTokens: 2, ...shape }).result, ExitLMError);
    await lm.dispose();
  });
});

// 17: what lies beside a model
test('control-vector direction.N, LoRA: heads that name what there is not', async () => {
  const lm = await ExitLM.load(tinyPath, { heads: false, worker: false });
  await lm.ready;
  const { fingerprint, layers, dimension: dim, vocabulary: vocab } = lm.info;
  await lm.dispose();
  const sizes = { fingerprint, layers, dim, vocab, kvDim: 32 };
  const levels = [{ accuracy: 0.9, thresholds: [0.4] }];
  for (const heads of [
    headsFile({ ...sizes, heads: [{ layer: 0xffffffff, rows: 4 }], levels }),
    headsFile({ ...sizes, heads: [{ layer: 0, rows: 4 }], levels }),
    headsFile({ ...sizes, heads: [{ layer: 2, rows: 0 }], levels }),
    headsFile({ ...sizes, heads: Array(99).fill({ layer: 2, rows: 4 }), levels }),
    headsFile({
      ...sizes,
      heads: [{ layer: 2, rows: 4 }],
      levels: [{ ...levels[0], thresholds: [] }],
    }),
    headsFile({ ...sizes, vocab: vocab + 7, heads: [{ layer: 2, rows: 4 }], levels }),
    ggufFile([key('general.architecture', 'controlvector')], [{ name: 'direction.4294967295' }], {
      data: 128,
    }),
  ])
    await assert.rejects(
      (async () => {
        const with_ = await ExitLM.load(tinyPath, { heads, worker: false });
        await with_.ready;
      })(),
      (error) =>
        error instanceof ExitLMError &&
        ['BAD_MODEL', 'UNSUPPORTED', 'HEADS_MISMATCH'].includes(error.code),
    );
});
