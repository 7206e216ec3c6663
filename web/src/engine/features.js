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

/** @param {...string} hex */
const bytes = (...hex) => Uint8Array.from(hex.join(' ').split(' '), (byte) => parseInt(byte, 16));

// () -> i32: lane 0 of i32x4.dot_i16x8_s(splat(3), splat(5)), 30
const simdProbe = bytes(
  '00 61 73 6d 01 00 00 00', // magic, version
  '01 05 01 60 00 01 7f', // type: () -> i32
  '03 02 01 00', // function 0 of type 0
  '07 05 01 01 64 00 00', // export "d"
  '0a 12 01 10 00', // code: no locals
  '41 03 fd 10', // i32.const 3, i16x8.splat
  '41 05 fd 10', // i32.const 5, i16x8.splat
  'fd ba 01', // i32x4.dot_i16x8_s
  'fd 1b 00 0b', // i32x4.extract_lane 0, end
);

// (a, b, c) -> i32: the lanes of relaxed_dot(splat(a) + (0, -3, 1, …), splat(b), splat(c)),
// weighted 1, 3, 5, 7
const relaxedProbe = bytes(
  '00 61 73 6d 01 00 00 00 01 08 01 60 03 7f 7f 7f 01 7f', // type: (i32, i32, i32) -> i32
  '03 02 01 00 07 05 01 01 64 00 00 0a 49 01 47 01 01 7b', // code: one local, a v128
  '20 00 fd 0f', // local.get 0, i8x16.splat
  'fd 0c 00 fd 01 02 fe 03 00 05 fa 07 08 09 f6 0b 0c f3', // v128.const
  'fd 6e', // i8x16.add
  '20 01 fd 0f', // local.get 1, i8x16.splat
  '20 02 fd 11', // local.get 2, i32x4.splat
  'fd 93 02', // i32x4.relaxed_dot_i8x16_i7x16_add_s
  '22 03 fd 1b 00', // local.tee 3, i32x4.extract_lane 0
  '20 03 fd 1b 01 41 03 6c 6a', // + lane 1 * 3
  '20 03 fd 1b 02 41 05 6c 6a 20 03 fd 1b 03 41 07 6c 6a 0b',
);
const relaxedAddends = [0, -3, 1, 2, -2, 3, 0, 5, -6, 7, 8, 9, -10, 11, 12, -13];

/** @param {Uint8Array<ArrayBuffer>} probe */
function compiles(probe) {
  try {
    return WebAssembly.validate(probe);
  } catch {
    return false;
  }
}

/** @returns {boolean} */
function relaxedIsRight() {
  if (!compiles(relaxedProbe)) return false;
  let dot;
  try {
    const module = new WebAssembly.Module(relaxedProbe);
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
    new WebAssembly.Module(bytes('00 61 73 6d 01 00 00 00'));
    return true;
  } catch {
    return false;
  }
}
