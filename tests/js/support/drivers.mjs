// Ray and GNU parallel for the tests of tools/scale, where they are not installed: from PyPI and from
// the machine's Debian archive, into the cache, once, without root.
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { installOnce, nameOf } from '../../install-once.mjs';
import { root, run } from '../../../wasm/setup/setup.mjs';

const python = process.env.PYTHON ?? 'python3';
const requirements = path.join(root, 'tools/scale/requirements.txt');
const nothingOfNpm = (/** @type {string} */ work) =>
  fs.writeFileSync(path.join(work, 'package.json'), '{ "private": true }');
const works = (/** @type {string} */ command, /** @type {string[]} */ args) =>
  spawnSync(command, args, { stdio: 'ignore' }).status === 0;

/**
 * The environment with the tool in it, or why it is not there.
 * @param {() => Record<string, string>} find
 * @returns {{ env: Record<string, string>, skip: string | false }}
 */
function found(find) {
  try {
    return { env: find(), skip: false };
  } catch (error) {
    return { env: {}, skip: `cannot be installed: ${/** @type {Error} */ (error).message}` };
  }
}

export const ray = () =>
  found(() => {
    // a busy machine takes longer to start a cluster than Ray waits by itself
    const patience = { RAY_raylet_start_wait_time_s: '240' };
    if (works(python, ['-c', 'import ray'])) return patience;
    const folder = installOnce(
      nameOf('ray', [requirements]),
      'Ray (75 MB, once)',
      nothingOfNpm,
      (work) => {
        const options = ['--quiet', '--disable-pip-version-check', '--target', 'python'];
        run(python, ['-m', 'pip', 'install', ...options, '-r', requirements], {
          cwd: work,
          quiet: true,
          failure: 'Is pip able to reach its index, and is there a Ray for this Python?',
        });
      },
    );
    return { ...patience, PYTHONPATH: path.join(folder, 'python') };
  });

export const parallel = () =>
  found(() => {
    if (works('parallel', ['--version'])) return {};
    const folder = installOnce(
      'gnu-parallel',
      'GNU parallel (2 MB, once)',
      nothingOfNpm,
      (work) => {
        const options = { cwd: work, quiet: true, failure: 'Is this Debian or Ubuntu?' };
        run('apt-get', ['download', 'parallel'], options);
        const [deb] = fs.readdirSync(work).filter((name) => name.endsWith('.deb'));
        run('dpkg', ['-x', deb, '.'], options);
      },
    );
    const bin = path.join(folder, 'usr/bin');
    execFileSync(path.join(bin, 'parallel'), ['--version'], { stdio: 'ignore' });
    return { PATH: `${bin}:${process.env.PATH}` };
  });

export { python };
