/** Files of Node's, Deno's or Bun's. */
import { ExitLMError, messageOf } from '../link/errors.js';
import { nodeModule } from '../link/platform.js';

const scope = /** @type {any} */ (globalThis);

/**
 * @param {string} path
 * @returns {import('../link/sources.js').Source}
 */
export function fileSource(path) {
  return {
    name: path,
    url: null,
    async open(from, to, signal) {
      const fs = await nodeModule('node:fs/promises');
      let size;
      try {
        const stat = await fs.stat(path);
        if (stat.isDirectory())
          throw new ExitLMError('USAGE', `${path}: this is a folder; a model file was expected`);
        size = stat.size;
      } catch (cause) {
        if (cause instanceof ExitLMError) throw cause;
        const missing = /** @type {{ code?: string }} */ (cause).code === 'ENOENT';
        const why = missing
          ? `there is no such file, seen from ${scope.process.cwd()}; a model of the catalogue is fetched by "npx exitlm pull NAME"`
          : `cannot be read (${messageOf(cause)})`;
        throw new ExitLMError('NETWORK', `${path}: ${why}`, { cause });
      }
      return {
        from,
        total: size,
        ranged: true,
        validator: null,
        body: fileChunks(fs, path, from, Math.min(to ?? size, size), signal),
      };
    },
  };
}

/**
 * @param {any} fs
 * @param {string} path
 * @param {number} from
 * @param {number} to
 * @param {AbortSignal} signal
 */
async function* fileChunks(fs, path, from, to, signal) {
  const file = await fs.open(path, 'r');
  try {
    const buffer = new Uint8Array(Math.max(1, Math.min(1 << 20, to - from)));
    for (let at = from; at < to;) {
      const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, to - at), at);
      if (signal.aborted) throw signal.reason;
      if (bytesRead === 0) return; // it became shorter; the loader says what is missing
      yield buffer.subarray(0, bytesRead); // taken before the next read
      at += bytesRead;
    }
  } finally {
    await file.close();
  }
}
