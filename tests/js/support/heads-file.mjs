// Writes small heads files (NAME.exits.gguf) for tests: forms "lens" and "vocabulary", which need
// no tensors.

import { F32, ggufFile, I32, key, STRING, U32 } from './gguf.mjs';

/**
 * @typedef {{ strategy?: string, accuracy: number, certified?: boolean, thresholds: number[],
 *   coverage?: number[], kv?: string, kvType?: string, temperature?: number, maxTokens?: number }} Level
 * @param {{ fingerprint: string, layers: number, dim: number, vocab: number, kvDim: number, heads:
 *   { layer: number, rows: number }[], levels: Level[], further?: Level[], metric?: string,
 *   defaultAccuracy?: number }} options `layers`, `dim`, `vocab`, `kvDim` are the base model's;
 *   `further`: rows for other replies
 * @returns {Buffer}
 */
export function headsFile({
  fingerprint,
  layers,
  dim,
  vocab,
  kvDim,
  heads,
  levels,
  further = [],
  metric = 'entropy',
  defaultAccuracy,
}) {
  const rows = Math.max(...heads.map((head) => head.rows));
  const table = (/** @type {string} */ which, /** @type {Level[]} */ list) => {
    const column = (
      /** @type {string} */ name,
      /** @type {number} */ type,
      /** @type {(l: Level) => any} */ of,
    ) => key(`exitlm.${which}.${name}`, list.flatMap(of), type);
    return [
      key(`exitlm.${which}.count`, list.length, U32),
      column('strategy', STRING, (l) => l.strategy ?? 'risk'),
      column('kv_policy', STRING, (l) => l.kv ?? 'exact'),
      column('accuracy', F32, (l) => l.accuracy),
      column('certified', U32, (l) => Number(l.certified ?? true)),
      column('delta', F32, () => 0.05),
      column('bound', F32, (l) => 1 - l.accuracy),
      column('threshold', F32, (l) => l.thresholds),
      column('coverage', F32, (l) => l.coverage ?? l.thresholds.map(() => 0.25)),
      column('agreement', F32, (l) => l.accuracy),
      column('agreement_exited', F32, (l) => l.accuracy),
      column('conversations', U32, () => 600),
      column('tokens', U32, () => 30000),
      ...(which === 'levels'
        ? []
        : [
            column('kv_type', STRING, (l) => l.kvType ?? 'f32'),
            column('temperature', F32, (l) => l.temperature ?? 0),
            column('max_tokens', U32, (l) => l.maxTokens ?? 96),
          ]),
    ];
  };
  const keys = [
    key('general.architecture', 'exitlm', STRING),
    key('general.license', 'mit', STRING),
    key('exitlm.format_version', 1, U32),
    key('exitlm.engine_version', '0.1.0', STRING),
    key('exitlm.data', 'none: a test', STRING),
    key('exitlm.base.fingerprint', fingerprint, STRING),
    key('exitlm.base.name', 'test', STRING),
    key('exitlm.base.layers', layers, U32),
    key('exitlm.base.dim', dim, U32),
    key('exitlm.base.kv_dim', kvDim, U32),
    key('exitlm.base.vocab', vocab, U32),
    key(
      'exitlm.layers',
      heads.map((head) => head.layer),
      U32,
    ),
    key(
      'exitlm.forms',
      heads.map((head) => (head.layer === layers ? 'vocabulary' : 'lens')),
      STRING,
    ),
    key(
      'exitlm.rows',
      heads.map((head) => head.rows),
      U32,
    ),
    key(
      'exitlm.shortlist',
      Array.from({ length: rows }, (_, i) => vocab - 1 - i),
      I32,
    ),
    key('exitlm.metric', metric, STRING),
    key('exitlm.kv_policy', 'exact', STRING),
    key('exitlm.kv_type', 'f32', STRING),
    ...(defaultAccuracy === undefined
      ? []
      : [key('exitlm.default_accuracy', defaultAccuracy, F32)]),
    ...table('levels', levels),
    ...(further.length ? table('further', further) : []),
  ];
  return ggufFile(keys);
}
