//! Compiles and runs the programs of the README and of the book with the other doctests. The
//! tutorial's is compiled with `examples/tasks`, for it needs `tokenizers`.

#[doc = include_str!("../README.md")]
mod readme {}
#[doc = include_str!("../docs/book/src/choosing-a-loss.md")]
mod choosing_a_loss {}
#[doc = include_str!("../docs/book/src/configurations.md")]
mod configurations {}
#[doc = include_str!("../docs/book/src/extending.md")]
mod extending {}
#[doc = include_str!("../docs/book/src/faq.md")]
mod faq {}
#[doc = include_str!("../docs/book/src/logs.md")]
mod logs {}
#[doc = include_str!("../docs/book/src/losses.md")]
mod losses {}
#[doc = include_str!("../docs/book/src/precision.md")]
mod precision {}
#[doc = include_str!("../docs/book/src/processes.md")]
mod processes {}
#[doc = include_str!("../docs/book/src/python.md")]
mod python {}
#[doc = include_str!("../docs/book/src/resuming.md")]
mod resuming {}
#[doc = include_str!("../docs/book/src/schedules.md")]
mod schedules {}
#[doc = include_str!("../docs/book/src/teacher-files.md")]
mod teacher_files {}
