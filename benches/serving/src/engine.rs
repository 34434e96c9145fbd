//! The limit: ONNX Runtime alone, called from Rust, in this process.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use fishy_inference::{Engine, ModelOptions, OnnxRuntime, Tensor, TensorData};

use crate::process_tree;
use crate::requests::Model;

/// What the engine does without any server.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// CPU of one call.
    pub cpu_us: f64,
    /// The middle time of one call.
    pub p50_us: f64,
    /// Calls a second on all cores, each of one thread.
    pub per_second: f64,
}

/// Measures it, for so long on one thread and as long on all cores.
pub fn measure(library: &Path, file: &Path, model: Model, duration: Duration) -> Result<Limit> {
    let cores = std::thread::available_parallelism()?.get();
    let runtime = OnnxRuntime::load_library(library)?;
    let loaded = runtime.load(file, &ModelOptions { sessions: cores, ..ModelOptions::default() })?;
    let tensor = |number| Tensor::new("X", model.shape(), TensorData::Fp32(model.input(number)));
    let inputs: Vec<[Tensor; 1]> = (0..8).map(|number| [tensor(number)]).collect();
    let calls = |until: Instant| {
        let mut times = Vec::new();
        for input in inputs.iter().cycle() {
            let begun = Instant::now();
            if begun >= until {
                break;
            }
            loaded.run_ordered(input)?;
            times.push(begun.elapsed());
        }
        anyhow::Ok(times)
    };
    calls(Instant::now() + duration / 4)?;
    let me = std::process::id();
    let before = process_tree::usage(me)?;
    let mut times = calls(Instant::now() + duration)?;
    let cpu_s = process_tree::usage(me)?.cpu_s - before.cpu_s;
    times.sort_unstable();
    let p50_us = times[times.len() / 2].as_secs_f64() * 1e6;

    let count = AtomicU64::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(|| calls(started + duration))).collect();
        for thread in threads {
            let done = thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            count.fetch_add(done.len() as u64, Ordering::Relaxed);
        }
        anyhow::Ok(())
    })?;
    let per_second = count.into_inner() as f64 / started.elapsed().as_secs_f64();
    Ok(Limit { cpu_us: cpu_s * 1e6 / times.len() as f64, p50_us, per_second })
}
