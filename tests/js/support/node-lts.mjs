// The current LTS of Node, beside the one that runs the tests.
import fs from 'node:fs';
import path from 'node:path';
import { installOnce } from '../../install-once.mjs';

const VERSION = '26.10.0';

/** @returns {string} its program, of the packages that npm's `node` consists of */
export function nodeLts() {
  const name = `node-${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`;
  const folder = installOnce(
    `node-lts-${VERSION}`,
    `Node ${VERSION}, the current LTS (50 MB, once)`,
    (work) =>
      fs.writeFileSync(
        path.join(work, 'package.json'),
        JSON.stringify({ private: true, dependencies: { [name]: VERSION } }),
      ),
  );
  return path.join(folder, 'node_modules', name, 'bin/node');
}
