//! Training with several processes, GPUs or machines.
