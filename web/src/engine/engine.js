/**
 * One instance of the WebAssembly engine: its memory, its functions, its structs.
 *
 * Nothing here knows an offset, an enum's value or a status by heart: C hands out tables of them
 * (wasm/bindings.c). Calls go through `call`: a trap ends the instance, and every later call says
 * so.
 */
import { ExitLMError, messageOf } from '../link/errors.js';
import { now } from '../link/platform.js';

/** @typedef {{ key: string, offset: number, kind: number, count: number, nested: string }} Field */
/** @typedef {{ bytes: number, fields: Field[] }} Struct */

// The order of `wasm_kind` in bindings.c: the one thing that both sides agree on in writing.
const KINDS = /** @type {const} */ ([
  'u8',
  'u32',
  'i32',
  'u64',
  'f32',
  'f64',
  'pointer',
  'chars',
  'struct',
]);
const STAGE_BYTES = 64 * 1024;
const PAGE_BYTES = 65536;

/** @param {string} name */
const camelCase = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

export class Engine {
  /** @type {any} */ #exports;
  /** @type {ArrayBufferLike | undefined} */ #buffer;
  /** @type {Uint8Array} */ #u8 = new Uint8Array(0);
  /** @type {DataView} */ #view = new DataView(new ArrayBuffer(0));
  #decoder = new TextDecoder();
  #encoder = new TextEncoder();
  #error = 0;
  #stage = 0;
  /** @type {Map<string, Struct>} */ #structs = new Map();
  /** @type {unknown} */ #crash;
  /** What the call under way does with bytes that pass. @type {(piece: Uint8Array) => boolean} */
  #onPiece = () => false;

  /**
   * @param {WebAssembly.Module} module
   * @param {WebAssembly.Memory} [memory] shared memory, for the variants with threads
   */
  static async create(module, memory) {
    /** @type {(at: number, n: number) => boolean} */
    const pass = (at, n) => engine.#pass(at, n);
    const instance = await WebAssembly.instantiate(module, importsOf(module, memory, pass));
    const engine = new Engine(module, instance, memory);
    return engine;
  }

  /**
   * @param {WebAssembly.Module} module
   * @param {WebAssembly.Instance} instance
   * @param {WebAssembly.Memory} [memory]
   */
  constructor(module, instance, memory) {
    this.module = module;
    this.#exports = instance.exports;
    /** @type {WebAssembly.Memory} */
    this.memory = memory ?? this.#exports.memory;
    this.shared = memory !== undefined;
    this.#exports._initialize?.();
    /** Names behind each enum, in the order of its values. @type {Record<string, string[]>} */
    this.names = this.#readNames();
    this.#readFields();
    this.version = this.text(this.call('version'));
    this.#error = this.alloc(this.sizeOf('error'));
    this.#stage = this.alloc(STAGE_BYTES);
  }

  /** What ended this instance; undefined while it works. */
  get crash() {
    return this.#crash;
  }

  /** Bytes of linear memory. */
  get memoryBytes() {
    return this.memory.buffer.byteLength;
  }

  /**
   * Calls an export of bindings.c.
   * @param {string} name without its prefix
   * @param {...(number | boolean)} args
   * @returns {number} an address over 2 GB too: JavaScript reads those as negative, and nothing else
   *   of bindings.c is
   */
  call(name, ...args) {
    if (this.#crash) {
      throw new ExitLMError(
        'DISPOSED',
        `the engine ended after a crash (${messageOf(this.#crash)}); load the model again`,
        { cause: this.#crash },
      );
    }
    try {
      const value = this.#exports[`exitlm_wasm_${name}`](...args);
      return value < 0 ? value + 2 ** 32 : value;
    } catch (cause) {
      this.#crash = cause;
      throw new ExitLMError(
        'WORKER',
        `the engine crashed in ${name} (${messageOf(cause)}); load the model again`,
        { cause },
      );
    }
  }

  /**
   * Calls an export whose last parameter is the error and whose result is a status.
   * @param {string} name
   * @param {...(number | boolean)} args
   * @returns {string} the status: 'OK' or 'WAIT'; all others are thrown
   */
  run(name, ...args) {
    const status = this.names.status[this.call(name, ...args, this.#error)];
    if (status !== 'OK' && status !== 'WAIT') throw this.errorAt(this.#error);
    return status;
  }

  /**
   * Calls an export whose last parameter is the error and whose result is an object, NULL after a
   * failure.
   * @param {string} name
   * @param {...(number | boolean)} args
   * @returns {number}
   */
  make(name, ...args) {
    const object = this.call(name, ...args, this.#error);
    if (object === 0) throw this.errorAt(this.#error);
    return object;
  }

  /** @param {number} memory an `error` */
  errorAt(memory) {
    const { status, message } = this.read('error', memory);
    return new ExitLMError(/** @type {any} */ (this.names.status[status] ?? 'WORKER'), message);
  }

  // ---- memory ----

  /** @param {number} bytes */
  alloc(bytes) {
    const memory = this.call('alloc', bytes);
    if (memory === 0)
      throw new ExitLMError('OUT_OF_MEMORY', `no memory for ${bytes} bytes in the engine`);
    return memory;
  }

  /** @param {number} memory */
  free(memory) {
    if (!this.#crash) this.call('free', memory);
  }

  /** Thread-local storage for a helper thread; 0 where this module has none. */
  allocTls() {
    const bytes = this.#exports.__tls_size?.value ?? 0;
    return bytes > 0 ? this.alloc(bytes) : 0;
  }

  /**
   * Calls `use` with memory that is freed afterwards.
   * @template T
   * @param {number} bytes
   * @param {(memory: number) => T} use
   * @returns {T}
   */
  with(bytes, use) {
    const memory = this.alloc(bytes);
    try {
      return use(memory);
    } finally {
      this.free(memory);
    }
  }

  /**
   * Calls `use` with a copy of the bytes.
   * @template T
   * @param {Uint8Array} bytes
   * @param {(memory: number, n: number) => T} use
   * @returns {T}
   */
  withBytes(bytes, use) {
    return this.with(bytes.length, (memory) => {
      this.u8.set(bytes, memory);
      return use(memory, bytes.length);
    });
  }

  /**
   * Calls `use` with NUL-terminated text.
   * @template T
   * @param {string} text
   * @param {(memory: number, n: number) => T} use `n` is the number of bytes without the NUL
   * @returns {T}
   */
  withText(text, use) {
    const bytes = this.#encoder.encode(text);
    return this.with(bytes.length + 1, (memory) => {
      this.u8.set(bytes, memory);
      this.u8[memory + bytes.length] = 0;
      return use(memory, bytes.length);
    });
  }

  /**
   * Hands bytes of any length to `use`, piece by piece, through one small buffer in linear memory.
   * @param {Uint8Array} bytes
   * @param {(memory: number, n: number) => void} use
   */
  staged(bytes, use) {
    for (let at = 0; at < bytes.length; at += STAGE_BYTES) {
      const piece = bytes.subarray(at, at + STAGE_BYTES);
      this.u8.set(piece, this.#stage);
      use(this.#stage, piece.length);
    }
  }

  /**
   * Calls `use` while pieces of bytes pass between C and `onPiece`, which reads or fills them.
   * @template T
   * @param {(piece: Uint8Array) => boolean} onPiece false: it cannot
   * @param {() => T} use
   * @returns {T}
   */
  passing(onPiece, use) {
    this.#onPiece = onPiece;
    try {
      return use();
    } finally {
      this.#onPiece = () => false;
    }
  }

  /** @param {number} at @param {number} n */
  #pass(at, n) {
    return this.#onPiece(this.u8.subarray(at >>> 0, (at >>> 0) + n));
  }

  /** All of linear memory. Ask again after each call into the engine: it may have grown. */
  get u8() {
    if (this.memory.buffer !== this.#buffer) this.#refresh();
    return this.#u8;
  }

  get view() {
    if (this.memory.buffer !== this.#buffer) this.#refresh();
    return this.#view;
  }

  #refresh() {
    this.#buffer = this.memory.buffer;
    this.#u8 = new Uint8Array(this.#buffer);
    this.#view = new DataView(this.#buffer);
  }

  /**
   * A copy of text in linear memory.
   * @param {number} memory
   * @param {number} [bytes] left out: up to the NUL
   */
  text(memory, bytes) {
    if (memory === 0) return '';
    const end = bytes === undefined ? this.u8.indexOf(0, memory) : memory + bytes;
    // A decoder refuses shared memory.
    const view = this.shared ? this.u8.slice(memory, end) : this.u8.subarray(memory, end);
    return this.#decoder.decode(view);
  }

  /**
   * @param {number} memory
   * @param {number} n
   */
  i32s(memory, n) {
    return Array.from(new Int32Array(this.memory.buffer, memory, n));
  }

  // ---- structs ----

  /** @param {string} name */
  sizeOf(name) {
    return this.#struct(name).bytes;
  }

  /**
   * @param {string} name
   * @param {string} key
   */
  offsetOf(name, key) {
    return this.#field(name, key).offset;
  }

  /**
   * @param {string} name
   * @param {number} memory
   * @returns {any} its fields, camelCase; pointers as numbers
   */
  read(name, memory) {
    /** @type {Record<string, unknown>} */
    const out = {};
    for (const field of this.#struct(name).fields) {
      const at = memory + field.offset;
      const size = this.#fieldSize(field);
      if (KINDS[field.kind] === 'chars') out[field.key] = this.text(at);
      else if (field.count === 1) out[field.key] = this.#readField(field, at);
      else
        out[field.key] = Array.from({ length: field.count }, (_, i) =>
          this.#readField(field, at + i * size),
        );
    }
    return out;
  }

  /**
   * Writes the fields that `values` has; the others stay as they are.
   * @param {string} name
   * @param {number} memory
   * @param {Record<string, any>} values
   */
  write(name, memory, values) {
    for (const [key, value] of Object.entries(values)) {
      if (value === undefined) continue;
      const field = this.#field(name, key);
      for (const [i, item] of [value].flat().entries())
        this.#writeField(field, memory + field.offset + i * this.#fieldSize(field), item);
    }
  }

  /** @param {Field} field @param {number} at @param {any} value */
  #writeField({ key, kind }, at, value) {
    const { view } = this;
    switch (KINDS[kind]) {
      case 'u8':
        view.setUint8(at, value ? 1 : 0);
        break;
      case 'u32':
      case 'pointer':
        view.setUint32(at, value, true);
        break;
      case 'i32':
        view.setInt32(at, value, true);
        break;
      case 'u64':
        view.setBigUint64(at, BigInt(value), true);
        break;
      case 'f32':
        view.setFloat32(at, value, true);
        break;
      case 'f64':
        view.setFloat64(at, value, true);
        break;
      default:
        throw new TypeError(`${key} cannot be written`);
    }
  }

  /**
   * @param {string} name
   * @param {Record<string, any>} values
   * @returns {number} zeroed memory with these values; the caller frees it
   */
  create(name, values = {}) {
    const bytes = this.sizeOf(name);
    const memory = this.alloc(bytes);
    this.u8.fill(0, memory, memory + bytes);
    this.write(name, memory, values);
    return memory;
  }

  /** @param {string} name */
  #struct(name) {
    const struct = this.#structs.get(name);
    if (!struct) throw new TypeError(`bindings.c tells no struct ${name}`);
    return struct;
  }

  /** @param {string} name @param {string} key */
  #field(name, key) {
    const field = this.#struct(name).fields.find((f) => f.key === key);
    if (!field) throw new TypeError(`bindings.c tells no field ${name}.${key}`);
    return field;
  }

  /** @param {Field} field */
  #fieldSize(field) {
    const kind = KINDS[field.kind];
    if (kind === 'struct') return this.sizeOf(field.nested);
    if (kind === 'u64' || kind === 'f64') return 8;
    return kind === 'u8' || kind === 'chars' ? 1 : 4;
  }

  /**
   * @param {Field} field
   * @param {number} at
   * @returns {unknown}
   */
  #readField(field, at) {
    const { view } = this;
    switch (KINDS[field.kind]) {
      case 'u8':
        return view.getUint8(at) !== 0;
      case 'i32':
        return view.getInt32(at, true);
      case 'u64':
        return Number(view.getBigUint64(at, true));
      case 'f32':
        return view.getFloat32(at, true);
      case 'f64':
        return view.getFloat64(at, true);
      case 'struct':
        return this.read(field.nested, at);
      default:
        return view.getUint32(at, true);
    }
  }

  #readNames() {
    /** @type {Record<string, string[]>} */
    const names = {};
    for (let at = this.call('names'); this.view.getUint32(at, true) !== 0; at += 8) {
      const list = this.text(this.view.getUint32(at, true));
      (names[list] ??= []).push(this.text(this.view.getUint32(at + 4, true)));
    }
    for (const [index, list] of ['event', 'reason'].entries()) {
      names[list] = [];
      for (let i = 0, name; (name = this.call('event_name', index, i)) !== 0; i++)
        names[list].push(this.text(name));
    }
    return names;
  }

  #readFields() {
    const { view } = this;
    const word = (/** @type {number} */ at, /** @type {number} */ i) =>
      view.getUint32(at + 4 * i, true);
    for (let at = this.call('fields'); word(at, 0) !== 0; at += 24) {
      const name = this.text(word(at, 0));
      if (word(at, 1) === 0) {
        this.#structs.set(name, { bytes: word(at, 3), fields: [] });
        continue;
      }
      this.#struct(name).fields.push({
        key: camelCase(this.text(word(at, 1))),
        nested: this.text(word(at, 2)),
        offset: word(at, 3),
        kind: word(at, 4),
        count: word(at, 5),
      });
    }
  }
}

/**
 * What the module asks for. The engine computes only: besides the clock and shared memory it needs
 * nothing of its host, and what the C library might ask for is refused.
 * @param {WebAssembly.Module} module
 * @param {WebAssembly.Memory} [memory]
 * @param {(at: number, n: number) => boolean} [pass] takes or gives bytes; a helper thread's never
 *   does
 * @returns {WebAssembly.Imports}
 */
export function importsOf(module, memory, pass) {
  /** @type {Record<string, Record<string, any>>} */
  const imports = {};
  for (const { module: from, name, kind } of WebAssembly.Module.imports(module)) {
    const target = (imports[from] ??= {});
    if (kind === 'memory') target[name] = memory;
    else if (from === 'exitlm' && name === 'clock_ms') target[name] = now;
    else if (from === 'exitlm' && name === 'pass') target[name] = pass ?? (() => false);
    else if (name === 'emscripten_notify_memory_growth') target[name] = () => {};
    else {
      target[name] = () => {
        throw new Error(`the engine called ${from}.${name}, which it must not need`);
      };
    }
  }
  return imports;
}

/** @param {WebAssembly.Module} module */
export function needsSharedMemory(module) {
  return WebAssembly.Module.imports(module).some(({ kind }) => kind === 'memory');
}

/**
 * Shared memory for a variant with threads, with as much room to grow as this machine grants.
 * @param {WebAssembly.Module} module
 * @returns {Promise<Engine>}
 */
export async function createSharedEngine(module) {
  /** @type {unknown} */
  let cause;
  for (const maximum of [4096, 2048, 1024, 512].map((mib) => (mib * 2 ** 20) / PAGE_BYTES)) {
    for (const initial of [64, 256, 1024]) {
      try {
        return await Engine.create(
          module,
          new WebAssembly.Memory({ initial, maximum, shared: true }),
        );
      } catch (error) {
        cause = error;
        if (!(error instanceof WebAssembly.LinkError)) break; // less room, then
      }
    }
  }
  throw new ExitLMError('OUT_OF_MEMORY', 'no shared memory for an engine with threads', { cause });
}
