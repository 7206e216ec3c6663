/**
 * What this machine's WebAssembly can do, found out by trying.
 *
 * A module with one instruction that an engine does not know is refused whole, so there is a file
 * for each level, and tiny modules ask first. For relaxed SIMD it is not enough that the module is
 * accepted: V8 11.3 (Node 20) accepts `i32x4.relaxed_dot_i8x16_i7x16_add_s` and computes it wrongly
 * in its baseline compiler. So the probe runs one and looks at the value.
 *
 * @typedef {'simd' | 'relaxed'} Level
 * @typedef {import('../link/types.js').Features} Features
 */

// () -> i32: lane 0 of i32x4.dot_i16x8_s(splat(3), splat(5)), 30
const simdProbe = [
  0,
  97,
  115,
  109,
  1,
  0,
  0,
  0, // magic, version
  1,
  5,
  1,
  96,
  0,
  1,
  127, // type: () -> i32
  3,
  2,
  1,
  0, // function 0 of type 0
  7,
  5,
  1,
  1,
  100,
  0,
  0, // export "d"
  10,
  18,
  1,
  16,
  0, // code: no locals
  65,
  3,
  253,
  16, // i32.const 3, i16x8.splat
  65,
  5,
  253,
  16, // i32.const 5, i16x8.splat
  253,
  186,
  1, // i32x4.dot_i16x8_s
  253,
  27,
  0,
  11, // i32x4.extract_lane 0, end
];

// (a, b, c) -> i32: the lanes of relaxed_dot(splat(a) + (0, -3, 1, …), splat(b), splat(c)),
// weighted 1, 3, 5, 7
const relaxedProbe = [
  0,
  97,
  115,
  109,
  1,
  0,
  0,
  0,
  1,
  8,
  1,
  96,
  3,
  127,
  127,
  127,
  1,
  127, // type: (i32, i32, i32) -> i32
  3,
  2,
  1,
  0,
  7,
  5,
  1,
  1,
  100,
  0,
  0,
  10,
  73,
  1,
  71,
  1,
  1,
  123, // code: one local, a v128
  32,
  0,
  253,
  15, // local.get 0, i8x16.splat
  253,
  12,
  0,
  253,
  1,
  2,
  254,
  3,
  0,
  5,
  250,
  7,
  8,
  9,
  246,
  11,
  12,
  243, // v128.const
  253,
  110, // i8x16.add
  32,
  1,
  253,
  15, // local.get 1, i8x16.splat
  32,
  2,
  253,
  17, // local.get 2, i32x4.splat
  253,
  147,
  2, // i32x4.relaxed_dot_i8x16_i7x16_add_s
  34,
  3,
  253,
  27,
  0, // local.tee 3, i32x4.extract_lane 0
  32,
  3,
  253,
  27,
  1,
  65,
  3,
  108,
  106, // + lane 1 * 3
  32,
  3,
  253,
  27,
  2,
  65,
  5,
  108,
  106,
  32,
  3,
  253,
  27,
  3,
  65,
  7,
  108,
  106,
  11,
];
const relaxedAddends = [0, -3, 1, 2, -2, 3, 0, 5, -6, 7, 8, 9, -10, 11, 12, -13];

/** @param {number[]} bytes */
function compiles(bytes) {
  try {
    return WebAssembly.validate(new Uint8Array(bytes));
  } catch {
    return false;
  }
}

/** @returns {boolean} */
function relaxedIsRight() {
  if (!compiles(relaxedProbe)) return false;
  let dot;
  try {
    const module = new WebAssembly.Module(new Uint8Array(relaxedProbe));
    dot = /** @type {(a: number, b: number, c: number) => number} */ (
      new WebAssembly.Instance(module).exports.d
    );
  } catch {
    return false;
  }
  for (const [a, b, c] of [
    [-100, 127, 5],
    [7, 126, -9],
    [100, 64, 1],
    [-3, 1, 0],
  ]) {
    let expected = 0;
    for (let lane = 0; lane < 4; lane++) {
      let sum = c;
      for (let i = 0; i < 4; i++) sum += (((a + relaxedAddends[lane * 4 + i]) << 24) >> 24) * b;
      expected += sum * (2 * lane + 1);
    }
    if (dot(a, b, c) !== expected) return false;
  }
  return true;
}

/** @returns {boolean} */
function sharedMemoryWorks() {
  const scope = /** @type {any} */ (globalThis);
  if (scope.crossOriginIsolated === false || typeof SharedArrayBuffer !== 'function') return false;
  try {
    return (
      new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }).buffer instanceof
      SharedArrayBuffer
    );
  } catch {
    return false;
  }
}

/** @type {Features | undefined} */
let known;

/** @returns {Features} the same object at every call */
export function detectFeatures() {
  if (known) return known;
  const wasm = typeof WebAssembly === 'object' && typeof WebAssembly.validate === 'function';
  known = {
    wasm,
    simd: wasm && compiles(simdProbe),
    relaxedSimd: wasm && mayCompile() && relaxedIsRight(),
    threads: wasm && sharedMemoryWorks(),
  };
  return known;
}

/**
 * A Worker of Cloudflare may validate but not compile bytes: the module that it passes says what it
 * needs.
 */
function mayCompile() {
  try {
    new WebAssembly.Module(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]));
    return true;
  } catch {
    return false;
  }
}
