// Times of a plan from 0 to 1, and its frames, which count from 1.

/** Number of the frame, from 1, at a time. */
export const frameAt = (time, frames) => 1 + time * (frames - 1);
export const timeOfFrame = (frame, frames) => (frame - 1) / (frames - 1);

/** "4" or "4.3" */
export function frameLabel(time, frames) {
  const frame = frameAt(time, frames);
  return Math.abs(frame - Math.round(frame)) < 0.005 ? `${Math.round(frame)}` : frame.toFixed(1);
}
