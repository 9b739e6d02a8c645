//! Processes that are killed at moments of all kinds, and started again until they are done.
//!
//! Each tells what it is about to do, and waits; it is killed, or another one is, while it waits.
//! The moments are drawn from a seed and no clock decides anything.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tch::Tensor;
use textbrewer::checkpoint::Keep;
use textbrewer::distributed::{ProcessGroup, Rendezvous};
use textbrewer::schedule::linear_with_warmup;
use textbrewer::{
    AdamW, BasicTrainer, DataLoader, Distiller, Flow, LogSink, Model, Result, from_fn,
};

use crate::common::ranks::{child_folder, free_port, variables};
use crate::common::tiny::{Net, config, files, folder, loader, square};

const NAME: &str = "deaths::thirty_kills";
const LAST: &str = "gs8.safetensors";

/// Prints a line and waits for one.
fn announce(line: &str) {
    println!("\n> {line}");
    let _ = std::io::stdout().flush();
    let _ = std::io::stdin().lock().read_line(&mut String::new());
}

struct Losses;

impl LogSink for Losses {
    fn scalar(&mut self, tag: &str, value: f64, step: u64) -> Result<()> {
        announce(&format!("loss {tag} {step} {:016x}", value.to_bits()));
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

struct FileOperations;

impl log::Log for FileOperations {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == "textbrewer::checkpoint"
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            announce(&format!("file {}", record.args()));
        }
    }

    fn flush(&self) {}
}

/// What each process does.
fn train(folder: &Path) -> Result<()> {
    log::set_logger(&FileOperations).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    tch::manual_seed(7);
    let group = ProcessGroup::new(&Rendezvous::from_env()?.device(tch::Device::Cpu))?;
    let student = Net::new(2, 4, 0.25 + group.rank() as f64);
    let model = from_fn(|batch: &Tensor, train| {
        announce("model");
        // The random numbers of a process are its own.
        student.forward(&batch.dropout(0.2, train), train)
    });
    let mut trainer = BasicTrainer::builder(&model, &student.variables)
        .train_config(
            config(folder)
                .gradient_accumulation_steps(2)
                .ckpt_steps(2)
                .log_interval(1),
        )
        .adaptor(square)
        .build()?;
    let mut loader = loader(11).map(|batch| {
        announce("batch");
        Ok(batch)
    });
    let run = trainer
        .train(&mut loader)
        .steps(8)
        .optimizer(AdamW::new(1e-2))
        .schedule(linear_with_warmup(2, 8))
        .max_grad_norm(1.0)
        .keep(Keep::last(2))
        .callback(|_, _| {
            announce("callback");
            Ok(Flow::Continue)
        })
        .log_sink(Losses)
        .resume_or_start()
        .process_group(&group);
    run.run().map(drop)
}

/// When which process is killed: at a moment of one of them, which need not be the same.
#[derive(Debug, Clone, Copy)]
struct Kill {
    /// Whose moments are counted.
    watched: usize,
    kind: &'static str,
    nth: u32,
    killed: usize,
}

const KINDS: [&str; 9] = [
    "model",
    "file CreateFile",
    "batch",
    "file Write",
    "callback",
    "file Rename",
    "loss ",
    "file SyncFolder",
    "file Remove",
];

/// What a process came to.
struct Ended {
    /// None of one that was killed.
    code: Option<i32>,
    losses: Vec<(String, String)>,
    out: Vec<String>,
    /// The moment at which it, or another, was killed.
    at: Option<String>,
}

/// Answers a process until it ends.
fn attend(
    (output, mut input): (impl BufRead, impl Write),
    (rank, kill): (usize, Option<Kill>),
    children: &Mutex<Vec<Child>>,
) -> Ended {
    let mut ended = Ended {
        code: None,
        losses: Vec::new(),
        out: Vec::new(),
        at: None,
    };
    let mut times = 0;
    for line in output.lines().map_while(std::result::Result::ok) {
        let Some(moment) = line.strip_prefix("> ") else {
            ended.out.push(line);
            continue;
        };
        if let Some((name, bits)) = moment
            .rsplit_once(' ')
            .filter(|_| moment.starts_with("loss "))
        {
            ended.losses.push((name.to_owned(), bits.to_owned()));
        }
        if let Some(kill) =
            kill.filter(|kill| kill.watched == rank && moment.starts_with(kill.kind))
        {
            times += 1;
            if times == kill.nth {
                // SIGKILL. Both wait, or work at something that needs the one that is killed.
                let mut children = children.lock().unwrap();
                children[kill.killed].kill().unwrap();
                children[kill.killed].wait().unwrap();
                ended.at = Some(moment.to_owned());
            }
        }
        let _ = input.write_all(b"\n");
    }
    ended.code = children.lock().unwrap()[rank].wait().unwrap().code();
    ended
}

/// Two processes, one of which may be killed.
fn life(folder: &Path, kill: Option<Kill>) -> Vec<Ended> {
    let port = free_port();
    let start = |rank: usize| {
        Command::new(std::env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture", "--test-threads=1"])
            .env("TEXTBREWER_TEST_FOLDER", folder)
            .env("OMP_NUM_THREADS", "1")
            .envs(variables(rank, 2, port))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut children: Vec<_> = (0..2).map(start).collect();
    let pipes: Vec<_> = children
        .iter_mut()
        .map(|child| (child.stdout.take().unwrap(), child.stdin.take().unwrap()))
        .collect();
    let children = Arc::new(Mutex::new(children));
    let attending: Vec<_> = (0..)
        .zip(pipes)
        .map(|(rank, (output, input))| {
            let children = Arc::clone(&children);
            std::thread::spawn(move || {
                attend((BufReader::new(output), input), (rank, kill), &children)
            })
        })
        .collect();
    attending
        .into_iter()
        .map(|one| one.join().unwrap())
        .collect()
}

/// Losses by name and step, as bits.
#[derive(Default, Debug, PartialEq)]
struct Found(BTreeMap<String, String>);

impl Found {
    /// A loss that is computed again has to be the same again.
    fn note(&mut self, losses: &[(String, String)]) {
        for (name, bits) in losses {
            let before = self.0.insert(name.clone(), bits.clone());
            assert!(before.is_none_or(|before| before == *bits), "{name}");
        }
    }
}

#[test]
fn thirty_kills() {
    if let Some(folder) = child_folder() {
        if let Err(error) = train(&folder) {
            println!("\nError: {error}");
            std::process::exit(3);
        }
        println!("\ndone");
        return;
    }
    let whole = folder();
    let ended = life(whole.path(), None);
    assert!(
        ended.iter().all(|ended| ended.code == Some(0)),
        "{:?}",
        ended[0].out
    );
    let mut losses = Found::default();
    losses.note(&ended[0].losses);
    assert!(losses.0.len() >= 16 && ended[1].losses.is_empty());
    let weights = std::fs::read(whole.path().join(LAST)).unwrap();

    let mut random = ChaCha8Rng::seed_from_u64(30);
    let mut kills: Vec<(Kill, String)> = Vec::new();
    while kills.len() < 30 {
        let folder = folder();
        let mut found = Found::default();
        loop {
            let turn = kills.len();
            let kind = KINDS[turn % KINDS.len()];
            let is_of_first = kind.starts_with("file") || kind.starts_with("loss");
            let watched = if is_of_first {
                0
            } else {
                (random.next_u32() % 2) as usize
            };
            // The one that saves or the other; else the one that is watched.
            let killed = if is_of_first {
                (turn / KINDS.len() + turn) % 2
            } else {
                watched
            };
            let kill = Kill {
                watched,
                kind,
                nth: 1 + random.next_u32() % 6,
                killed,
            };
            let ended = life(folder.path(), Some(kill));
            found.note(&ended[0].losses);
            let Some(at) = ended[watched].at.clone() else {
                assert!(
                    ended.iter().all(|ended| ended.code == Some(0)),
                    "{kill:?} {:?}",
                    ended[0].out
                );
                break;
            };
            let survivor = &ended[1 - killed];
            let said = survivor.out.iter().find(|line| line.starts_with("Error: "));
            let said = said.unwrap_or_else(|| panic!("{kill:?} at {at}: {:?}", survivor.out));
            assert_eq!(survivor.code, Some(3));
            let start = format!("Error: process {} of 2, ", 1 - killed);
            assert!(said.starts_with(&start), "{kill:?} at {at}: {said}");
            assert!(
                said.contains(": another process has ended or was killed; look"),
                "{kill:?} at {at}: {said}"
            );
            kills.push((kill, at));
        }
        assert!(
            std::fs::read(folder.path().join(LAST)).unwrap() == weights,
            "{kills:?}"
        );
        assert_eq!(found, losses, "{kills:?}");
        assert_eq!(files(folder.path()), files(whole.path()), "{kills:?}");
    }
    // The moments were of all kinds, and of both processes.
    for kind in KINDS {
        assert!(
            kills.iter().any(|(kill, _)| kill.kind == kind),
            "{kind}: {kills:?}"
        );
    }
    for rank in [0, 1] {
        let of_saving = kills
            .iter()
            .filter(|(kill, _)| kill.killed == rank && kill.kind.starts_with("file"));
        assert!(of_saving.count() >= 3, "{kills:?}");
    }
}
