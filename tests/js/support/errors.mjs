import assert from 'node:assert/strict';
import { ExitLMError } from '../../../web/src/index.js';

/** For assert.throws and rejects: an ExitLMError with this code, and a message like this. */
export const code =
  (/** @type {string} */ expected, /** @type {RegExp} */ message = /./) =>
  (/** @type {any} */ error) => {
    assert.ok(error instanceof ExitLMError, `an ExitLMError, not ${error?.stack ?? error}`);
    assert.equal(error.code, expected, error.message);
    assert.match(error.message, message);
    return true;
  };
