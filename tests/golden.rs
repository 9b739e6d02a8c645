//! Everything that the original computed, in `tests/golden` or in `TEXTBREWER_GOLDEN_DIR`:
//! see `tests/golden/README.md` for what is in there and how close the numbers must be.

mod common;
#[path = "golden_cases/compare.rs"]
mod compare;
#[path = "golden_cases/losses.rs"]
mod losses;
#[path = "golden_cases/parameters.rs"]
mod parameters;
#[path = "golden_cases/trainings.rs"]
mod trainings;
