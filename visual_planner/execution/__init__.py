"""From the frames of a plan to keyframes that a robot can execute: read-out, camera, keyframes, ranking."""
