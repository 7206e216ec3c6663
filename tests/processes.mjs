// Processes of this machine, as Linux tells of them in /proc.
import fs from 'node:fs';

/** @param {number} pid @param {string} name @returns {string} a file of the process; '' when it has ended */
export function ofProcess(pid, name) {
  try {
    return fs.readFileSync(`/proc/${pid}/${name}`, 'utf8');
  } catch {
    return '';
  }
}

/** @param {number} pid @returns {number[]} the process, those that it started, and so on */
export function tree(pid) {
  const parents = fs
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => ({
      child: Number(name),
      parent: Number(/^PPid:\s*(\d+)/m.exec(ofProcess(Number(name), 'status'))?.[1]),
    }));
  const below = (/** @type {number} */ of) => [
    of,
    ...parents
      .filter(({ parent }) => parent === of)
      .flatMap(/** @returns {number[]} */ ({ child }) => below(child)),
  ];
  return below(pid);
}

/**
 * @param {number} pid
 * @param {RegExp} [named] of the tree only processes with such a name
 * @returns {number} resident bytes of the tree; what several of them share counts once
 */
export const residentBytes = (pid, named = /./) =>
  tree(pid)
    .filter((one) => named.test(ofProcess(one, 'comm')))
    .reduce(
      (sum, one) =>
        sum + 1024 * Number(/^Pss:\s*(\d+)/m.exec(ofProcess(one, 'smaps_rollup'))?.[1] ?? 0),
      0,
    );
