// An app in a temporary folder, with the packed tarball unpacked into its node_modules.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { root, run } from '../../../wasm/setup/setup.mjs';

const folders = /** @type {string[]} */ ([]);
process.on('exit', () =>
  folders.forEach((folder) => fs.rmSync(folder, { recursive: true, force: true })),
);

/** @returns {string} an empty folder that goes when this process does */
export function temporary() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-bundlers-'));
  folders.push(folder);
  return folder;
}

/** @type {string | undefined} */
let packed;

/** What `npm pack` gives, once for a test file. @returns {string} the tarball */
export function tarball() {
  if (packed) return packed;
  const folder = temporary();
  run('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder], {
    cwd: root,
    quiet: true,
    failure: 'npm pack failed.',
  });
  packed = path.join(folder, fs.readdirSync(folder)[0]);
  return packed;
}

/** @param {string} folder where node_modules/exitlm comes to lie */
export function install(folder) {
  const modules = path.join(folder, 'node_modules');
  fs.mkdirSync(modules, { recursive: true });
  run('tar', ['xzf', tarball(), '-C', modules], { quiet: true });
  fs.renameSync(path.join(modules, 'package'), path.join(modules, 'exitlm'));
}

/**
 * The files of a small app.
 * @param {object} options
 * @param {string} options.script address of the script in its page
 * @param {string} [options.head] further elements of the page's head
 * @param {string} [options.page] where the page lies
 * @param {string} [options.publicFolder] where files lie that are served as they are
 * @returns {string} the app's folder
 */
export function createApp({ script, head = '', page = 'index.html', publicFolder = 'public' }) {
  const folder = temporary();
  install(folder);
  const write = (/** @type {string} */ name, /** @type {string} */ text) => {
    fs.mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    fs.writeFileSync(path.join(folder, name), text);
  };
  write(
    'package.json',
    JSON.stringify({ name: 'app', private: true, type: 'module', dependencies: { exitlm: '*' } }),
  );
  write(
    page,
    `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>App</title>
<link rel="icon" href="data:,">
${head}
<p id="out"></p>
<script type="module" src="${script}"></script>
</html>
`,
  );
  write('src/index.js', fs.readFileSync(path.join(root, 'tests/bundlers/app/app.js'), 'utf8'));
  fs.mkdirSync(path.join(folder, publicFolder), { recursive: true });
  fs.copyFileSync(
    path.join(root, 'tests/data/tiny.gguf'),
    path.join(folder, publicFolder, 'tiny.gguf'),
  );
  return folder;
}

/**
 * A development server in a process of its own.
 * @param {string} program @param {string[]} args @param {string} cwd
 * @returns {Promise<{ url: string, stop: () => Promise<void> }>} once it has said its address
 */
export function serve(program, args, cwd) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [program, ...args], {
      cwd,
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, NO_COLOR: '1', FORCE_COLOR: '0' },
    });
    const ended = new Promise((resolveEnd) => {
      child.once('exit', resolveEnd);
    });
    let said = '';
    const listen = (/** @type {Buffer} */ data) => {
      said += data;
      const url = /https?:\/\/(?:localhost|127\.0\.0\.1|\[::1\]):\d+\//.exec(said)?.[0];
      if (url)
        resolve({
          url,
          stop: async () => {
            child.stdin.end();
            child.kill();
            await ended;
          },
        });
    };
    child.stdout.on('data', listen);
    child.stderr.on('data', listen);
    child.once('error', reject);
    ended.then(() =>
      reject(new Error(`${path.basename(program)} ended before it said its address: ${said}`)),
    );
  });
}
