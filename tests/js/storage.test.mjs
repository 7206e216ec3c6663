// Storage that fails: each call of the place where models are kept fails once, in the place's own way
// (no room, a handle that is closed or another's, a short write). Loading goes on without it, nothing
// is thrown, no lock stays; and the next visit finds what is right, or nothing.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { openStore, readNote } from '../../web/src/cache/cache.js';
import { ExitLM } from '../../web/src/index.js';
import { modelServer } from './support/model-server.mjs';
import { tinyBytes } from './support/tiny-model.mjs';

/** @typedef {{ calls: string[], failAt: number, short: boolean }} Fault */
const error = (/** @type {string} */ name) => new DOMException(`the ${name} of a test`, name);
/** What each call of the origin private file system throws in life. */
const REASONS = /** @type {Record<string, string>} */ ({
  getDirectory: 'SecurityError',
  createSyncAccessHandle: 'NoModificationAllowedError',
  write: 'QuotaExceededError',
  put: 'QuotaExceededError',
  close: 'InvalidStateError',
});

/** Counts a call; throws where it is the one that fails. @param {Fault} fault @param {string} name */
function called(fault, name) {
  const fails = fault.calls.push(name) === fault.failAt;
  if (fails && !(fault.short && name === 'write'))
    throw error(REASONS[name] ?? 'InvalidStateError');
  return fails;
}

/** A file system in memory, as browsers have it in workers. @param {Fault} fault */
function fileSystem(fault) {
  class File {
    bytes = new Uint8Array(0);
    locked = false;
    async createSyncAccessHandle() {
      called(fault, 'createSyncAccessHandle');
      if (this.locked) throw error('NoModificationAllowedError');
      this.locked = true;
      return new Handle(this);
    }
    async getFile() {
      called(fault, 'getFile');
      return new Blob([this.bytes.slice()]);
    }
  }
  class Handle {
    /** @param {File} file */
    constructor(file) {
      this.file = file;
    }
    getSize() {
      called(fault, 'getSize');
      return this.file.bytes.length;
    }
    /** @param {Uint8Array} into @param {{ at: number }} where */
    read(into, { at }) {
      called(fault, 'read');
      const some = this.file.bytes.subarray(at, at + into.length);
      into.set(some);
      return some.length;
    }
    /** @param {Uint8Array} bytes @param {{ at: number }} where */
    write(bytes, { at }) {
      const some = called(fault, 'write') ? bytes.subarray(0, bytes.length >> 1) : bytes;
      const whole = new Uint8Array(Math.max(this.file.bytes.length, at + some.length));
      whole.set(this.file.bytes);
      whole.set(some, at);
      this.file.bytes = whole;
      return some.length;
    }
    /** @param {number} n */
    truncate(n) {
      called(fault, 'truncate');
      this.file.bytes = this.file.bytes.slice(0, n);
    }
    flush() {
      called(fault, 'flush');
    }
    close() {
      this.file.locked = false;
      called(fault, 'close');
    }
  }
  class Folder {
    kind = 'directory';
    /** @type {Map<string, any>} */ inside = new Map();
    /** @param {string} name @param {boolean | undefined} create @param {new () => any} kind */
    async entry(name, create, kind) {
      called(fault, kind === File ? 'getFileHandle' : 'getDirectoryHandle');
      if (!this.inside.has(name) && !create) throw error('NotFoundError');
      if (!this.inside.has(name)) this.inside.set(name, new kind());
      return this.inside.get(name);
    }
    getDirectoryHandle = (/** @type {string} */ name, /** @type {any} */ { create } = {}) =>
      this.entry(name, create, Folder);
    getFileHandle = (/** @type {string} */ name, /** @type {any} */ { create } = {}) =>
      this.entry(name, create, File);
    /** @param {string} name */
    async removeEntry(name) {
      called(fault, 'removeEntry');
      if (!this.inside.delete(name)) throw error('NotFoundError');
    }
    async *entries() {
      called(fault, 'entries');
      yield* this.inside.entries();
    }
  }
  const root = new Folder();
  const storage = {
    getDirectory: async () => (called(fault, 'getDirectory'), root),
    estimate: async () => (called(fault, 'estimate'), { quota: 1e9, usage: 0 }),
  };
  return { globals: { FileSystemFileHandle: File }, storage };
}

/** The Cache API. @param {Fault} fault */
function cacheApi(fault) {
  /** @type {Map<string, Uint8Array>} */
  const kept = new Map();
  const cache = {
    match: async (/** @type {string} */ key) => {
      called(fault, 'match');
      return kept.has(key) ? new Response(/** @type {any} */ (kept.get(key))) : undefined;
    },
    put: async (/** @type {string} */ key, /** @type {Response} */ response) => {
      called(fault, 'put');
      kept.set(key, new Uint8Array(await response.arrayBuffer()));
    },
    delete: async (/** @type {string} */ key) => (called(fault, 'delete'), kept.delete(key)),
    keys: async () => (called(fault, 'keys'), [...kept.keys()].map((url) => ({ url }))),
  };
  const caches = {
    open: async () => (called(fault, 'open'), cache),
    has: async () => (called(fault, 'has'), true),
  };
  return { globals: { caches }, storage: undefined };
}

/** Locks that are held. */
const held = new Set();
const locks = {
  /** @param {string} name @param {any} _ @param {(granted: unknown) => Promise<void>} body */
  async request(name, _, body) {
    if (held.has(name)) return body(null);
    held.add(name);
    return Promise.resolve(body({})).finally(() => held.delete(name));
  },
};

/**
 * Runs with such a place.
 * @template T
 * @param {{ globals: object, storage: any }} place
 * @param {() => Promise<T>} body
 * @returns {Promise<T>}
 */
async function within({ globals, storage }, body) {
  const { navigator } = globalThis;
  const set = (/** @type {any} */ value) =>
    Object.defineProperty(globalThis, 'navigator', { value, configurable: true });
  set({ storage, locks });
  Object.assign(globalThis, globals);
  try {
    return await body();
  } finally {
    set(navigator);
    for (const name of Object.keys(globals)) Reflect.deleteProperty(globalThis, name);
  }
}

const places = { 'opfs': fileSystem, 'cache-api': cacheApi };
const peer = /** @type {any} */ (null);
const key = 'https://example.invalid/m.gguf';
const size = 40_000;
const bytes = new Uint8Array(size).map((_, i) => (i * 31 + (i >> 8)) & 255);

/** A visit: what is there is read, the rest is written. Returns how much was there. @param {any} kind */
async function visit(kind) {
  /** @type {string[]} */
  const warnings = [];
  await readNote(kind, key, peer);
  const store = await openStore(kind, key, peer, { warn: (text) => void warnings.push(text) });
  let there = 0;
  if (store) {
    // two stretches, and so two pieces
    for (const [from, to] of [
      [size / 2, size],
      [0, size / 2],
    ])
      for (let at = from; at < to;) {
        const some = await store.read(0, at, to - at);
        if (some)
          assert.ok(Buffer.from(some).equals(bytes.subarray(at, at + some.length)), `${at}`);
        there += some?.length ?? 0;
        const n = some?.length ?? Math.min(5000, to - at);
        if (!some) await store.write(0, at, bytes.subarray(at, at + n));
        at += n;
      }
    store.describe(0, '"v1"');
    store.keepNote({ a: 1 });
    await store.expect(size);
    await store.finish([size]);
    await store.touch();
    await store.close();
  }
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(warnings.length <= 1, warnings.join('\n'));
  assert.equal(held.size, 0, 'a lock stays');
  return { there, store };
}

describe('each call of the storage fails once', () => {
  for (const [kind, make] of Object.entries(places))
    for (const short of kind === 'opfs' ? [false, true] : [false])
      test(`${kind}${short ? ', short writes' : ''}`, async () => {
        /** @param {number} failAt @param {number} visits before it fails */
        const run = async (failAt, visits) => {
          const fault = { calls: /** @type {string[]} */ ([]), failAt: 0, short };
          return within(make(fault), async () => {
            for (let i = 0; i < visits; i++) await visit(kind);
            Object.assign(fault, { calls: [], failAt });
            await visit(kind);
            const { calls } = fault;
            Object.assign(fault, { calls: [], failAt: 0 });
            await visit(kind);
            const { there } = await visit(kind);
            assert.equal(
              there,
              size,
              `after ${calls[failAt - 1]}, call ${failAt}: not all is kept`,
            );
            return calls;
          });
        };
        for (const visits of [0, 1]) {
          const calls = await run(0, visits);
          assert.ok(calls.length > 6, calls.join());
          for (let at = 1; at <= calls.length; at++)
            if (!short || calls[at - 1] === 'write') await run(at, visits);
        }
      });
});

test('a model loads whichever kind of call fails, and is whole', async (t) => {
  const server = await modelServer({ '/tiny.gguf': tinyBytes });
  t.after(server.close);
  for (const [kind, make] of Object.entries(places)) {
    const fault = { calls: /** @type {string[]} */ ([]), failAt: 0, short: false };
    const load = async () => {
      /** @type {string[]} */
      const warnings = [];
      const lm = await ExitLM.load(`${server.address}/tiny.gguf`, {
        worker: false,
        heads: false,
        cache: /** @type {any} */ (kind),
        onWarning: (text) => void warnings.push(text),
      });
      await lm.ready;
      const { text } = await lm.complete('Once upon', { maxTokens: 4 }).result;
      await lm.dispose();
      assert.ok(warnings.length <= 1, warnings.join('\n'));
      return text;
    };
    const [expected, kinds] = await within(make(fault), async () => [
      await load(),
      new Map(fault.calls.map((name, i) => [name, i + 1])),
    ]);
    assert.ok(kinds.size > 3, [...kinds.keys()].join());
    for (const [name, failAt] of kinds) {
      Object.assign(fault, { calls: [], failAt });
      await within(make(fault), async () => assert.equal(await load(), expected, name));
      assert.equal(held.size, 0, `${name}: a lock stays`);
    }
  }
});
