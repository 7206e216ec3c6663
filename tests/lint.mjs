// The look and the rules of all sources: checks them (npm run lint), or writes the look (npm run
// format).
//
//   node tests/lint.mjs [--write]
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { SetupError, ensureNpm, exitWith, root, run, say } from '../wasm/setup/setup.mjs';

const SCRIPTS = ['.', 'docs', 'models', 'tests', 'wasm', 'web'];

/** The C sources; .clang-format-ignore leaves out those that are generated. */
const cSources = () =>
  ['src', 'tests', 'wasm', 'web/edge'].flatMap((folder) =>
    fs
      .readdirSync(path.join(root, folder), { recursive: true })
      .map((file) => path.join(folder, String(file)))
      .filter((file) => /\.[ch]$/.test(file) && !file.includes('node_modules')),
  );

/** @type {(write: boolean) => Record<string, string[]>} */
const tools = (write) => ({
  'clang-format': [
    'clang-format-node/build/cli.js',
    ...(write ? ['-i'] : ['--dry-run', '-Werror']),
    ...cSources(),
  ],
  'Prettier': [
    'prettier/bin/prettier.cjs',
    write ? '--write' : '--check',
    '--log-level=warn',
    'eslint.config.js',
    ...SCRIPTS.slice(1).map((folder) => `${folder}/**/*.{js,mjs,css,html}`),
  ],
  ...(write
    ? {}
    : {
        ESLint: ['eslint/bin/eslint.js', '--max-warnings=0', ...SCRIPTS],
        tsc: [
          'typescript-native/bin/tsc',
          '-p',
          'web/tsconfig.json',
          '--noEmit',
          '--emitDeclarationOnly',
          'false',
          '--declaration',
          'false',
        ],
      }),
});

/** Runs every tool, also after one has found something; throws where one has. */
export function lint({ write = false } = {}) {
  ensureNpm();
  const failed = Object.entries(tools(write))
    .filter(([name, [program, ...args]]) => {
      try {
        run(process.execPath, [path.join(root, 'node_modules', program), ...args]);
        return false;
      } catch (error) {
        if (!(error instanceof SetupError)) throw error;
        say(`${name} is not content`);
        return true;
      }
    })
    .map(([name]) => name);
  if (failed.length)
    throw new SetupError(`${failed.join(', ')}: see above. npm run format mends the look.`);
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    lint({ write: process.argv.includes('--write') });
  } catch (error) {
    exitWith(error);
  }
}
