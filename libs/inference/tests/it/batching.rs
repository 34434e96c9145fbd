use crate::load;
use fishy_core::{ErrorCode, Result};
use fishy_inference::{Batcher, BatcherOptions, Datatype, Model, ModelOptions, Ran, Tensor, TensorData, TensorSpec};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Doubles its input, once it is let; remembers the rows of each run.
struct Gated {
    specs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    is_open: Mutex<bool>,
    opened: Condvar,
    begun: AtomicUsize,
    runs: Mutex<Vec<usize>>,
}

impl Gated {
    fn new() -> Arc<Self> {
        let spec = |name: &str| TensorSpec { name: name.into(), datatype: Datatype::Fp32, shape: vec![-1, -1] };
        Arc::new(Self {
            specs: vec![spec("x")],
            outputs: vec![spec("y")],
            is_open: Mutex::new(true),
            opened: Condvar::new(),
            begun: AtomicUsize::new(0),
            runs: Mutex::default(),
        })
    }

    fn set_open(&self, is_open: bool) {
        *self.is_open.lock().unwrap() = is_open;
        self.opened.notify_all();
    }
}

impl Model for Gated {
    fn inputs(&self) -> &[TensorSpec] {
        &self.specs
    }
    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }
    fn run(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let is_open = self.is_open.lock().unwrap();
        drop(self.opened.wait_while(is_open, |is_open| !*is_open).unwrap());
        let TensorData::Fp32(values) = &inputs[0].data else { panic!("checked before") };
        if values.contains(&-1.0) {
            return Err(fishy_core::Error::invalid("-1 is no value"));
        }
        self.runs.lock().unwrap().push(inputs[0].shape[0] as usize);
        let doubled = values.iter().map(|value| value * 2.0).collect();
        Ok(vec![Tensor::new("y", inputs[0].shape.clone(), TensorData::Fp32(doubled))])
    }
    fn warm_up_p50(&self) -> Option<Duration> {
        None
    }
    fn warm_up_elements(&self) -> usize {
        1
    }
}

fn x(rows: usize, width: usize, value: f32) -> Vec<Tensor> {
    vec![Tensor::new("x", [rows as i64, width as i64], TensorData::Fp32(vec![value; rows * width]))]
}

fn soon() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

/// A batcher whose one session is busy until the gate opens, and the request that holds it.
async fn busy(options: BatcherOptions) -> (Arc<Gated>, Arc<Batcher>, tokio::task::JoinHandle<Result<Ran>>) {
    let model = Gated::new();
    let batcher = Batcher::new(model.clone(), options, Some(x(1, 2, 1.0)));
    model.runs.lock().unwrap().clear();
    model.set_open(false);
    let begun = model.begun.load(Ordering::SeqCst);
    let first = send(&batcher, x(1, 2, 0.5), soon());
    while model.begun.load(Ordering::SeqCst) == begun {
        tokio::task::yield_now().await;
    }
    (model, batcher, first)
}

fn send(batcher: &Arc<Batcher>, inputs: Vec<Tensor>, deadline: Instant) -> tokio::task::JoinHandle<Result<Ran>> {
    let batcher = Arc::clone(batcher);
    tokio::spawn(async move { batcher.run(inputs, deadline).await })
}

async fn until_waiting(batcher: &Batcher, count: usize) {
    while batcher.waiting() != count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_waits_while_the_model_is_busy_runs_as_one_batch_and_shapes_are_not_mixed() {
    let (model, batcher, first) = busy(BatcherOptions { max_batch_rows: 8, ..BatcherOptions::default() }).await;
    let mut waiting = Vec::new();
    for (index, (rows, width)) in [(2, 2), (1, 3), (3, 2), (4, 2), (1, 2)].into_iter().enumerate() {
        waiting.push((rows, width, send(&batcher, x(rows, width, index as f32), soon())));
        until_waiting(&batcher, index + 1).await;
    }
    model.set_open(true);
    assert_eq!(first.await.unwrap().unwrap().batch_rows, 1);
    let mut firsts = 0;
    for (index, (rows, width, answer)) in waiting.into_iter().enumerate() {
        let ran = answer.await.unwrap().unwrap();
        assert_eq!(ran.outputs[0].data, TensorData::Fp32(vec![index as f32 * 2.0; rows * width]), "{index}");
        assert_eq!(ran.inputs, x(rows, width, index as f32));
        assert!(ran.queued > Duration::ZERO);
        firsts += usize::from(ran.is_first);
    }
    // 2 + 3 + 1 rows of one shape fit into 8, the 4 between them do not; then the row of another shape, then the 4.
    assert_eq!(*model.runs.lock().unwrap(), [1, 6, 1, 4]);
    assert_eq!(firsts, 3);
}

#[tokio::test]
async fn an_idle_model_runs_a_request_at_once_and_alone() {
    let model = Gated::new();
    let batcher = Batcher::new(model.clone(), BatcherOptions::default(), None);
    let ran = batcher.run(x(3, 2, 1.0), soon()).await.unwrap();
    assert_eq!((ran.batch_rows, ran.is_first), (3, true));
    let error = batcher.run(vec![Tensor::new("z", [1], TensorData::Bool(vec![true]))], soon()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn expired_and_cancelled_requests_are_not_computed() {
    let (model, batcher, first) = busy(BatcherOptions::default()).await;
    let expired = send(&batcher, x(1, 2, 1.0), Instant::now() + Duration::from_millis(20));
    until_waiting(&batcher, 1).await;
    let cancelled = send(&batcher, x(1, 2, 2.0), soon());
    until_waiting(&batcher, 2).await;
    let kept = send(&batcher, x(1, 2, 3.0), soon());
    until_waiting(&batcher, 3).await;
    cancelled.abort();
    let error = expired.await.unwrap().unwrap_err();
    assert_eq!(error.code(), ErrorCode::ResourceExhausted);
    assert!(cancelled.await.is_err());
    model.set_open(true);
    first.await.unwrap().unwrap();
    assert_eq!(kept.await.unwrap().unwrap().batch_rows, 1, "neither of the others ran with it");
    assert_eq!(*model.runs.lock().unwrap(), [1, 1]);
}

#[tokio::test]
async fn a_queue_that_is_full_in_bytes_refuses() {
    let (model, batcher, first) = busy(BatcherOptions { max_queue_bytes: 16, ..BatcherOptions::default() }).await;
    let kept = send(&batcher, x(2, 2, 1.0), soon());
    until_waiting(&batcher, 1).await;
    let error = batcher.run(x(1, 2, 1.0), soon()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ResourceExhausted);
    assert!(error.message().contains("1 requests of 16 bytes wait"), "{error}");
    model.set_open(true);
    first.await.unwrap().unwrap();
    kept.await.unwrap().unwrap();
    batcher.run(x(1, 2, 1.0), soon()).await.unwrap();
}

#[tokio::test]
async fn one_bad_value_does_not_fail_the_batch() {
    let (model, batcher, first) = busy(BatcherOptions::default()).await;
    let good = send(&batcher, x(1, 2, 1.0), soon());
    until_waiting(&batcher, 1).await;
    let bad = send(&batcher, x(1, 2, -1.0), soon());
    until_waiting(&batcher, 2).await;
    model.set_open(true);
    first.await.unwrap().unwrap();
    assert_eq!(good.await.unwrap().unwrap().outputs[0].data, TensorData::Fp32(vec![2.0, 2.0]));
    assert_eq!(bad.await.unwrap().unwrap_err().code(), ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn only_models_whose_rows_are_independent_are_batched() {
    let is_batchable = |name: &str, example: Option<Vec<Tensor>>| {
        Batcher::new(load(name, &ModelOptions::default()), BatcherOptions::default(), example).is_batchable()
    };
    let one = Some(vec![Tensor::new("x", [1, 1], TensorData::Fp32(vec![1.0]))]);
    assert!(is_batchable("layers.onnx", None));
    assert!(is_batchable("zipmap.onnx", None));
    assert!(!is_batchable("running.onnx", one), "each row is the sum of those before it");
    assert!(is_batchable("typed.onnx", None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_get_each_their_own_answer() {
    let options = ModelOptions { sessions: 2, ..ModelOptions::default() };
    let batcher = Batcher::new(load("linear.onnx", &options), BatcherOptions::default(), None);
    let callers: Vec<_> = (0..16_u8)
        .map(|caller| {
            let batcher = Arc::clone(&batcher);
            tokio::spawn(async move {
                for call in 0..200_u8 {
                    let (a, b) = (f32::from(caller), f32::from(call));
                    let x = Tensor::new("x", [1, 3], TensorData::Fp32(vec![a, b, 0.0]));
                    let ran = batcher.run(vec![x], soon()).await.unwrap();
                    assert_eq!(ran.outputs[0].data, TensorData::Fp32(vec![a + 2.0 * b + 0.5]));
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(batcher.waiting(), 0);
}
