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
import { describeModel } from './describe.js';
import { detectFeatures } from './features.js';
import { headerText, ONLY_HEADER, readHeaders, stateOf } from './header.js';
import { startEngine, threadsFor, variantFor } from './instance.js';
import { sessionOptions } from './structs.js';

/** Failures that say something of the model or the machine, not of the line. */
const VERDICTS = new Set(['BAD_MODEL', 'UNSUPPORTED', 'OUT_OF_MEMORY', 'HEADS_MISMATCH']);
const MOST_MISSING_BYTES = 512;

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
    missing: [],
    model: null,
    heads: null,
  };
  try {
    const { engine } = await startEngine({ ...spec, threads: 1 });
    const resolved = await resolve(spec.files, spec.heads, context);
    const loader = engine.make('loader_create', 0, 0, 0, ONLY_HEADER);
    try {
      const heads = findHeads(resolved, context.signal);
      heads.catch(() => {});
      await readHeaders(engine, loader, resolved, context.signal, (bytes) => {
        check.bytes = bytes;
      });
      check.heads = await heads;
      weigh(engine, loader, spec, check);
    } finally {
      if (!engine.crash) describe(engine, loader, check);
    }
    check.runs = true;
    check.reason = sentence(check);
  } catch (error) {
    if (!(error instanceof ExitLMError) || !VERDICTS.has(error.code)) throw error;
    check.reason = error.message;
  }
  return check;
}

/**
 * Exit heads beside the model, named, or of the manifest.
 * @param {import('../loading/resolve.js').Resolved} resolved
 * @param {AbortSignal} signal
 * @returns {Promise<Check['heads']>}
 */
async function findHeads({ heads }, signal) {
  if (!heads) return null;
  const { source, optional } = heads;
  /** @type {number | null} */
  let bytes = null;
  let start = '';
  try {
    const onOpen = (/** @type {{ total: number | null }} */ { total }) => {
      bytes = total;
    };
    for await (const piece of download(source, 0, 4, { signal, tries: 2, onOpen }))
      start += String.fromCharCode(...piece.bytes);
  } catch (error) {
    if (!optional || signal.aborted) throw error;
  }
  return start === 'GGUF' ? { name: source.name, bytes } : null;
}

/**
 * What it takes, and how fast it will be.
 * @param {Engine} engine
 * @param {number} loader
 * @param {LoadSpec} spec
 * @param {Check} check filled in
 */
function weigh(engine, loader, spec, check) {
  const { headerReady, nParts, headerBytes, totalBytes } = stateOf(engine, loader);
  // its sentence says what is missing
  if (!headerReady) engine.make('loader_finish', loader);
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
  if (clockRuns()) {
    const bytesPerSecond = engine.call('speed');
    if (bytesPerSecond > 0)
      check.estimate.tokensPerSecond = Math.round((bytesPerSecond / sizes.model) * 10) / 10;
  }
  if (nParts === 1 && check.bytes !== null && check.bytes < totalBytes)
    throw new ExitLMError(
      'BAD_MODEL',
      check.bytes <= headerBytes
        ? 'the weights are not in this file: it is a header alone'
        : `truncated: its tensors need ${totalBytes} bytes, the file ends at ${check.bytes}`,
    );
  claim(check.memory.total);
}

/**
 * What the header says of the model, also of one that does not run.
 * @param {Engine} engine
 * @param {number} loader
 * @param {Check} check filled in
 */
function describe(engine, loader, check) {
  const text = (/** @type {string} */ key) => headerText(engine, loader, key);
  const known = stateOf(engine, loader).headerReady
    ? describeModel(engine, engine.call('loader_model', loader), 0)
    : null;
  check.model = {
    name: text('general.name'),
    architecture: text('general.architecture'),
    tokenizer: text('tokenizer.ggml.model'),
    preTokenizer: text('tokenizer.ggml.pre'),
    licence: text('general.license'),
    quantisation: known?.quantisation ?? null,
    parameters: known?.parameters ?? null,
    layers: known?.layers ?? null,
    contextLength: known?.modelContextLength ?? null,
  };
  const lines = engine.with(MOST_MISSING_BYTES, (memory) => {
    engine.call('loader_missing', loader, memory, MOST_MISSING_BYTES);
    return engine.text(memory);
  });
  check.missing = lines ? lines.split('\n') : [];
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
