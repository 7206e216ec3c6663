// Makes what of the package is not source: web/dist/jinja.js (the template engine, so that a page needs no import map)
// and, with --types, web/dist/types (declarations, by tsc from the JSDoc comments).
//
//   node web/build.mjs [--types]
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const dist = path.join(root, 'web/dist');
const require = createRequire(import.meta.url);

/** Writes a file where its content changed. */
function write(/** @type {string} */ file, /** @type {string} */ text) {
  if (fs.existsSync(file) && fs.readFileSync(file, 'utf8') === text) return;
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, text);
}

/** The template engine as one module, with its licence. */
export function buildJinja() {
  const folder = path.dirname(path.dirname(require.resolve('@huggingface/jinja')));
  const { version } = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
  const licence = fs.readFileSync(path.join(folder, 'LICENSE'), 'utf8').trim().replaceAll('*/', '* /');
  const code = fs.readFileSync(path.join(folder, 'dist/index.js'), 'utf8');
  write(path.join(dist, 'jinja.js'), `// @ts-nocheck\n/* @huggingface/jinja ${version}\n\n${licence}\n*/\n${code}`);
  write(path.join(dist, 'jinja.d.ts'), 'export class Template {\n  constructor(source: string);\n  render(context: Record<string, unknown>): string;\n}\n');
}

/** Declarations of every module of the package. */
export function buildTypes() {
  const tsc = path.join(path.dirname(require.resolve('typescript/package.json')), 'bin/tsc');
  const { status } = spawnSync(process.execPath, [tsc, '-p', path.join(root, 'tsconfig.json')], { cwd: root, stdio: 'inherit' });
  if (status !== 0) throw new Error('tsc found errors');
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  buildJinja();
  if (process.argv.includes('--types')) buildTypes();
}
