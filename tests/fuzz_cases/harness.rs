//! Runs parsers on mutated inputs and looks at what comes of it.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::mutate::Mutator;

fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(default, |text| text.parse().expect(name))
}

/// Runs a parser on mutations of `corpus`. `parse` says whether it took the input.
pub fn fuzz<E: Display>(
    parser: &str,
    inputs: u64,
    mutate: impl Fn(&mut Mutator) -> Vec<u8>,
    mut parse: impl FnMut(&[u8]) -> Result<(), E>,
) {
    let inputs = number("FUZZ_INPUTS", inputs);
    let (seed, first) = (number("FUZZ_SEED", 0), number("FUZZ_FIRST", 0));
    let start = Instant::now();
    let mut accepted = 0u64;
    for index in first..first + inputs {
        let generator = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9) ^ index);
        let input = mutate(&mut Mutator::new(generator));
        let outcome = catch_unwind(AssertUnwindSafe(|| match parse(&input) {
            Ok(()) => true,
            Err(error) => {
                check_message(&error);
                false
            }
        }));
        match outcome {
            Ok(is_good) => accepted += u64::from(is_good),
            Err(_) => panic!(
                "{parser} panics: FUZZ_SEED={seed} FUZZ_FIRST={index} FUZZ_INPUTS=1\n{}",
                String::from_utf8_lossy(&input)
            ),
        }
    }
    let rate = inputs as f64 / start.elapsed().as_secs_f64();
    println!("{parser}: {inputs} inputs, {accepted} accepted, {rate:.0} a second");
    // Inputs that are all refused, or all taken, would test little.
    if inputs >= 1000 {
        assert!(
            (inputs / 100..inputs).contains(&accepted),
            "{parser}: {accepted} accepted"
        );
    }
    let peak = peak_memory();
    assert!(peak < 1 << 30, "{parser}: {} MiB of memory", peak >> 20);
}

pub fn check_message(error: &impl Display) {
    let message = error.to_string();
    assert!(
        !message.is_empty() && message.len() < 20_000,
        "{} bytes",
        message.len()
    );
    assert!(
        !message.contains(|c: char| c.is_control() && c != '\n'),
        "{message:?}"
    );
}

/// The most memory that this process had at once, where the system tells it.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}
