//! Everything that the original computed, in `tests/golden` or in `TEXTBREWER_GOLDEN_DIR`:
//! see `tests/golden/README.md` for what is in there and how close the numbers must be.

mod common;
mod golden_cases {
    mod losses;
    mod parameters;
    mod trainings;
}
