// What the linter asks beyond the types (tsc) and the look (Prettier).
import js from '@eslint/js';
import globals from 'globals';

export default [
  {
    ignores: [
      'build*/',
      'web/dist/',
      'web/types/',
      'web/demo/vendor/',
      'site/',
      'docs/api/',
      'tests/out/',
      'tests/tmp/',
    ],
  },
  js.configs.recommended,
  {
    files: ['**/*.js', '**/*.mjs'],
    languageOptions: {
      ecmaVersion: 'latest',
      sourceType: 'module',
      globals: { ...globals.browser, ...globals.node, ...globals.serviceworker },
    },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      'eqeqeq': 'error',
      'no-empty': ['error', { allowEmptyCatch: true }],
      'no-control-regex': 'off', // tests look for a terminal's control characters
      'no-nested-ternary': 'error',
      'no-shadow': ['error', { allow: ['_', 'before', 'after'] }], // the latter two of node:test
      'no-unused-vars': [
        'error',
        {
          args: 'after-used',
          varsIgnorePattern: '^_$',
          caughtErrors: 'none',
          ignoreRestSiblings: true,
        },
      ],
      'no-var': 'error',
      'prefer-const': ['error', { destructuring: 'all' }],
    },
  },
];
