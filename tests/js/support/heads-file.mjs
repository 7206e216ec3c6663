// Writes small heads files (NAME.exits.gguf) for tests: forms "lens" and "vocabulary", which need
// no tensors.

import { F32, ggufFile, I32, key, STRING, U32 } from './gguf.mjs';

/**
 * @typedef {{ strategy?: string, accuracy: number, certified?: boolean, thresholds: number[],
 *   coverage?: number[] }} Level
 * @param {{ fingerprint: string, layers: number, dim: number, vocab: number, kvDim: number, heads:
 *   { layer: number, rows: number }[], levels: Level[], metric?: string, defaultAccuracy?: number
 *   }} options `layers`, `dim`, `vocab`, `kvDim` are the base model's
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
  metric = 'entropy',
  defaultAccuracy,
}) {
  const rows = Math.max(...heads.map((head) => head.rows));
  const level = (
    /** @type {string} */ name,
    /** @type {number} */ type,
    /** @type {(l: Level) => any} */ of,
  ) => key(`exitlm.levels.${name}`, levels.flatMap(of), type);
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
    key('exitlm.levels.count', levels.length, U32),
    level('strategy', STRING, (l) => l.strategy ?? 'risk'),
    level('accuracy', F32, (l) => l.accuracy),
    level('certified', U32, (l) => Number(l.certified ?? true)),
    level('delta', F32, () => 0.05),
    level('bound', F32, (l) => 1 - l.accuracy),
    level('threshold', F32, (l) => l.thresholds),
    level('coverage', F32, (l) => l.coverage ?? l.thresholds.map(() => 0.25)),
    level('agreement', F32, (l) => l.accuracy),
    level('agreement_exited', F32, (l) => l.accuracy),
    level('conversations', U32, () => 600),
    level('tokens', U32, () => 30000),
  ];
  return ggufFile(keys);
}
