/** @type {(kind: string, key: string, peer: unknown, expected?: string | null) => Promise<any>} */
export async function openStore() {
  return null;
}
export const modelCache = {};

export async function readNote() {}
export async function keepNote() {}
