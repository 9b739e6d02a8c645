//! Settings and state of libtorch as a whole. Each test changes what all threads see, so
//! they take turns.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tch::{Device, Kind, Tensor};
use textbrewer::backend::{
    MatmulPrecision, allow_tf32, matmul_precision, memory, random_state, reset_peak_memory,
    set_matmul_precision, set_random_state, synchronize,
};
use textbrewer::{Error, Result};

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn precision_is_read_as_it_was_set_and_begins_highest() -> Result<()> {
    let _turn = turn();
    assert_eq!(matmul_precision()?, MatmulPrecision::default());
    for precision in [
        MatmulPrecision::Medium,
        MatmulPrecision::High,
        MatmulPrecision::Highest,
    ] {
        set_matmul_precision(precision)?;
        assert_eq!(matmul_precision()?, precision);
    }
    allow_tf32(true)?;
    assert_eq!(matmul_precision()?, MatmulPrecision::High);
    allow_tf32(false)?;
    assert_eq!(matmul_precision()?, MatmulPrecision::Highest);
    Ok(())
}

#[test]
fn names_of_precisions_are_pytorchs() {
    for (precision, name) in [
        (MatmulPrecision::Highest, "\"highest\""),
        (MatmulPrecision::High, "\"high\""),
        (MatmulPrecision::Medium, "\"medium\""),
    ] {
        assert_eq!(serde_json::to_string(&precision).unwrap(), name);
        let read: MatmulPrecision = serde_json::from_str(name).unwrap();
        assert_eq!(read, precision);
    }
}

fn mask() -> Tensor {
    Tensor::ones([64], (Kind::Float, Device::Cpu)).dropout(0.5, true)
}

#[test]
fn dropout_after_restoring_drops_the_same() -> Result<()> {
    let _turn = turn();
    tch::manual_seed(3);
    let _ = mask();
    // An odd number of normal values leaves one in store, which is state too.
    let normal = || Tensor::randn([3], (Kind::Float, Device::Cpu));
    let _ = normal();
    let state = random_state(Device::Cpu)?;
    assert_eq!(state.kind(), Kind::Uint8);
    let first = (mask(), normal());
    assert_ne!((mask(), normal()), first);
    set_random_state(Device::Cpu, &state)?;
    assert_eq!((mask(), normal()), first);
    // A state is a copy: what was drawn since did not reach it.
    let wide = state.repeat([2]).view([2, -1]).tr().contiguous().tr();
    set_random_state(Device::Cpu, &wide.get(1))?;
    assert_eq!((mask(), normal()), first);
    Ok(())
}

#[test]
fn a_state_that_is_none_changes_nothing() -> Result<()> {
    let _turn = turn();
    tch::manual_seed(5);
    let state = random_state(Device::Cpu)?;
    let expected = mask();
    set_random_state(Device::Cpu, &state)?;
    // The engine's position, at bytes 8 to 16, is at most 624.
    let broken = state.copy();
    let _ = broken.slice(0, 8, 16, 1).fill_(255);
    for (wrong, message) in [
        (
            Tensor::new(),
            "random state: expected a row of bytes, as `random_state` returns, got an undefined tensor",
        ),
        (
            state.to_kind(Kind::Int64),
            "random state: expected a row of bytes, as `random_state` returns, got Int64 [",
        ),
        (
            state.view([1, -1]),
            "random state: expected a row of bytes, as `random_state` returns, got Uint8 [1, ",
        ),
        (state.slice(0, 0, 100, 1), "random state of Cpu: "),
        (broken, "random state of Cpu: "),
    ] {
        let error = set_random_state(Device::Cpu, &wrong)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(message), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    assert_eq!(random_state(Device::Cpu)?, state);
    assert_eq!(mask(), expected);
    Ok(())
}

#[test]
fn a_device_that_is_not_there_is_an_error_everywhere() {
    let _turn = turn();
    let nowhere = Device::Cuda(4_000);
    let state = Tensor::zeros([16], (Kind::Uint8, Device::Cpu));
    for error in [
        random_state(nowhere).unwrap_err(),
        set_random_state(nowhere, &state).unwrap_err(),
        memory(nowhere).unwrap_err(),
        reset_peak_memory(nowhere).unwrap_err(),
        synchronize(nowhere).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Config { .. }), "{error:?}");
        let message = error.to_string();
        assert!(
            message.starts_with("device: `cuda:4000` is not there: libtorch finds "),
            "{message}"
        );
    }
}

#[test]
fn the_cpu_counts_no_memory_and_has_nothing_to_wait_for() {
    for error in [
        memory(Device::Cpu).unwrap_err(),
        reset_peak_memory(Device::Cpu).unwrap_err(),
    ] {
        assert_eq!(
            error.to_string(),
            "memory statistics: libtorch keeps none for `cpu`, only for CUDA devices"
        );
    }
    synchronize(Device::Cpu).unwrap();
}

#[test]
#[ignore = "needs a CUDA device"]
fn memory_of_a_gpu_follows_its_tensors() -> Result<()> {
    let _turn = turn();
    let device = Device::Cuda(0);
    let before = memory(device)?;
    let tensor = Tensor::zeros([1 << 20], (Kind::Float, device));
    synchronize(device)?;
    assert_eq!(memory(device)?.allocated - before.allocated, 4 << 20);
    drop(tensor);
    let after = memory(device)?;
    assert_eq!(after.allocated, before.allocated);
    assert!(after.peak_allocated >= before.allocated + (4 << 20));
    reset_peak_memory(device)?;
    assert_eq!(memory(device)?.peak_allocated, before.allocated);
    let state = random_state(device)?;
    let first = Tensor::randn([8], (Kind::Float, device));
    set_random_state(device, &state)?;
    assert_eq!(Tensor::randn([8], (Kind::Float, device)), first);
    Ok(())
}
