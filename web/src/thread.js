/** The script of a helper thread of the engine. */
import './engine/thread.js';
