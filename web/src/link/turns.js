/**
 * Where a conversation goes on that has outgrown its room: its oldest turns are left out, from one of
 * the user's to the next, so that what is left is a conversation too.
 * @param {{ role: string }[]} messages
 * @param {number} begin so many are left out already
 * @param {(at: number) => Promise<boolean>} fits whether what is left from there on does
 * @returns {Promise<number>} messages to leave out; where nothing fits as many as possible
 */
export async function turnsToLeaveOut(messages, begin, fits) {
  let at = begin;
  while (!(await fits(at))) {
    const next = messages.findIndex(({ role }, i) => i > at && role === 'user');
    if (next < 0) break;
    at = next;
  }
  return at;
}
