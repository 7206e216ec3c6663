/**
 * Will a model run here? From its header alone.
 *
 * @typedef {import('../link/types.js').Check} Check
 * @typedef {import('../link/protocol.js').LoadSpec} LoadSpec
 * @typedef {import('./engine.js').Engine} Engine
 */
import { ExitLMError, megabytes } from '../link/errors.js';
import { clockRuns } from '../link/platform.js';
import { download } from '../loading/download.js';
import { resolve } from '../loading/resolve.js';
import { detectFeatures } from './features.js';
import { startEngine, threadsFor, variantFor } from './instance.js';
import { sessionOptions } from './structs.js';

/** Failures that say something of the model or the machine, not of the line. */
const VERDICTS = new Set(['BAD_MODEL', 'UNSUPPORTED', 'OUT_OF_MEMORY', 'HEADS_MISMATCH']);

/**
 * @param {LoadSpec} spec
 * @param {Parameters<typeof resolve>[2]} context
 * @returns {Promise<Check>}
 */
export async function checkModel(spec, context) {
  const threadsUsed = await threadsFor(spec.threads, spec.inWorker);
  /** @type {Check} */
  const check = {
    runs: false,
    reason: '',
    bytes: null,
    memory: null,
    features: { ...detectFeatures(), threadsUsed, kernel: variantFor(threadsUsed) },
    estimate: { tokensPerSecond: null },
  };
  try {
    const { engine } = await startEngine({ ...spec, threads: 1 });
    await lookAt(engine, spec, context, check);
    check.runs = true;
    check.reason = sentence(check);
  } catch (error) {
    if (!(error instanceof ExitLMError) || !VERDICTS.has(error.code)) throw error;
    check.reason = error.message;
  }
  return check;
}

/**
 * @param {Engine} engine
 * @param {LoadSpec} spec
 * @param {Parameters<typeof resolve>[2]} context
 * @param {Check} check filled in
 */
async function lookAt(engine, spec, context, check) {
  const { sources, manifest } = await resolve(spec.files, null, context);
  const loader = engine.make('loader_create', 0, 0, 0, true);
  const stateStruct = engine.create('load_state');
  const state = () => {
    engine.call('loader_state', loader, stateStruct);
    return engine.read('load_state', stateStruct);
  };
  /** @type {number | null} */
  let bytes = manifest?.bytes ?? 0;
  for (const [i, source] of sources.entries()) {
    if (state().headerReady) break;
    if (!manifest && i > 0) engine.run('loader_seek', loader, i, 0);
    for await (const { bytes: chunk } of download(source, 0, null, {
      signal: context.signal,
      tries: 3,
      onOpen: ({ total }) => {
        if (!manifest) bytes = total === null || bytes === null ? null : bytes + total;
      },
    })) {
      engine.staged(chunk, (memory, n) => {
        if (!enough(state(), i, manifest !== null)) engine.run('loader_push', loader, memory, n);
      });
      if (enough(state(), i, manifest !== null)) break;
    }
  }
  // its sentence says what is missing
  if (!state().headerReady) engine.make('loader_finish', loader);
  check.bytes = bytes;
  const options = engine.create(
    'session_options',
    sessionOptions(engine, { ...spec, threads: 1, heads: 0 }),
  );
  const sizes = engine.with(16, (memory) => {
    engine.run('loader_memory', loader, options, memory);
    return {
      model: engine.view.getFloat64(memory, true),
      session: engine.view.getFloat64(memory + 8, true),
    };
  });
  check.memory = { ...sizes, total: sizes.model + sizes.session + engine.memoryBytes };
  claim(check.memory.total);
  if (clockRuns()) {
    const bytesPerSecond = engine.call('speed');
    if (bytesPerSecond > 0)
      check.estimate.tokensPerSecond = Math.round((bytesPerSecond / sizes.model) * 10) / 10;
  }
}

/** @param {any} state @param {number} part @param {boolean} packed */
function enough(state, part, packed) {
  return state.headerReady || (!packed && state.part === part && state.headerBytes > 0);
}

/**
 * Asks for so much memory, and lets it go.
 * @param {number} bytes
 */
function claim(bytes) {
  const pages = Math.ceil(bytes / 65536);
  if (pages > 65535)
    throw new ExitLMError(
      'OUT_OF_MEMORY',
      `the model takes ${megabytes(bytes)}, WebAssembly has room for 4295 MB`,
    );
  try {
    new WebAssembly.Memory({ initial: pages, maximum: pages });
  } catch (cause) {
    throw new ExitLMError(
      'OUT_OF_MEMORY',
      `the model takes ${megabytes(bytes)}, which this device does not grant`,
      { cause },
    );
  }
}

/** @param {Check} check */
function sentence({ memory, estimate, bytes }) {
  const parts = [];
  if (bytes !== null) parts.push(`${megabytes(bytes)} to download`);
  if (memory) parts.push(`${megabytes(memory.total)} of memory`);
  if (estimate.tokensPerSecond !== null)
    parts.push(`about ${Number(estimate.tokensPerSecond.toPrecision(2))} tokens a second`);
  return `runs here: ${parts.join(', ')}`;
}
