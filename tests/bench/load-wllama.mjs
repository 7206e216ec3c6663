// wllama, at the version that is named here. It is no part of the package's dependencies: it is
// installed outside the repository, once: ${XDG_CACHE_HOME:-~/.cache}/exitlm/wllama-VERSION.
import fs from 'node:fs';
import path from 'node:path';
import { installOnce } from '../install-once.mjs';

const VERSION = '3.8.1';
export const wllamaName = `wllama ${VERSION}`;

/** Installs what is missing. @returns {string} wllama's folder */
export function wllama() {
  const folder = installOnce(
    `wllama-${VERSION}`,
    `${wllamaName}, to measure beside it (20 MB, once)`,
    (work) => {
      fs.writeFileSync(
        path.join(work, 'package.json'),
        JSON.stringify({ private: true, dependencies: { '@wllama/wllama': VERSION } }),
      );
    },
  );
  return path.join(folder, 'node_modules/@wllama/wllama');
}
