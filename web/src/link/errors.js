/**
 * Why something failed.
 * - `NETWORK`: no connection, or it broke and did not come back.
 * - `HTTP`: the server answered, but not with the file.
 * - `BAD_MODEL`: the bytes are not a model that can be read.
 * - `UNSUPPORTED`: a valid model, or a platform, that this version does not handle.
 * - `HEADS_MISMATCH`: exit heads of another model.
 * - `CHECKSUM`: the bytes are not those that were promised.
 * - `OUT_OF_MEMORY`: the model does not fit.
 * - `CONTEXT_FULL`: the prompt is longer than the context.
 * - `USAGE`: an argument out of its range.
 * - `DISPOSED`: the object was disposed of, or its engine ended.
 * - `WORKER`: the engine crashed or its worker was killed.
 * @typedef {'NETWORK' | 'HTTP' | 'BAD_MODEL' | 'UNSUPPORTED' | 'HEADS_MISMATCH' | 'CHECKSUM'
 *   | 'OUT_OF_MEMORY' | 'CONTEXT_FULL' | 'USAGE' | 'DISPOSED' | 'WORKER'} ExitLMErrorCode
 */

/** Every failure of this package, aborts excepted: those reject with the signal's own reason. */
export class ExitLMError extends Error {
  /**
   * @param {ExitLMErrorCode} code
   * @param {string} message a sentence for a person
   * @param {{ cause?: unknown }} [options]
   */
  constructor(code, message, options) {
    super(message, options);
    this.name = 'ExitLMError';
    /** @type {ExitLMErrorCode} */
    this.code = code;
  }
}

const OF_A_FILE = new Set(['BAD_MODEL', 'UNSUPPORTED', 'HEADS_MISMATCH']);

/**
 * Runs `work`; what the engine finds wrong, which is given bytes and no names, then says in which
 * file.
 * @template T
 * @param {string} name
 * @param {() => T} work
 * @returns {T}
 */
export function inFile(name, work) {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof ExitLMError) || !OF_A_FILE.has(error.code)) throw error;
    throw new ExitLMError(error.code, `${name}: ${error.message}`, { cause: error.cause });
  }
}

/**
 * A failure as plain data, for the way between a worker and the page.
 * @typedef {{ name: string, code?: string, message: string, stack?: string, cause?: ErrorData }}
 *   ErrorData
 */

/**
 * @param {unknown} error
 * @param {number} [depth] causes followed
 * @returns {ErrorData}
 */
export function errorToData(error, depth = 4) {
  if (!(error instanceof Error) && !isErrorLike(error))
    return { name: 'Error', message: String(error) };
  const { name, message, stack, cause } = /** @type {Error} */ (error);
  const code = /** @type {{ code?: unknown }} */ (error).code;
  /** @type {ErrorData} */
  const data = { name, message };
  if (typeof code === 'string') data.code = code;
  if (stack) data.stack = stack;
  if (cause !== undefined && depth > 0) data.cause = errorToData(cause, depth - 1);
  return data;
}

/**
 * @param {ErrorData} data
 * @returns {Error}
 */
export function errorFromData(data) {
  const options = data.cause ? { cause: errorFromData(data.cause) } : undefined;
  const error =
    data.name === 'ExitLMError'
      ? new ExitLMError(/** @type {ExitLMErrorCode} */ (data.code), data.message, options)
      : Object.assign(
          new Error(data.message, options),
          { name: data.name },
          data.code ? { code: data.code } : {},
        );
  if (data.stack) error.stack = data.stack;
  return error;
}

/** @param {unknown} value */
function isErrorLike(value) {
  return typeof value === 'object' && value !== null && 'message' in value && 'name' in value;
}

/** A size in a message. @param {number} bytes */
export const megabytes = (bytes) =>
  `${bytes < 10e6 ? (bytes / 1e6).toFixed(1) : Math.round(bytes / 1e6)} MB`;

/**
 * @param {unknown} error
 * @returns {string} its message, whatever it is
 */
export function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}
