/** The script of the engine's worker. */
import './engine/worker.js';
