//! What is read of a file is what was recorded, to the bit or within the bounds of how it is stored.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use tch::{Kind, Tensor};
use textbrewer::data::{Shard, TensorLoader};
use textbrewer::logits::TopK;
use textbrewer::teacher_file::Stored;
use textbrewer::{AdaptorOutput, DataLoader, Feature, Ids, Logits, Model, TeacherFile, from_fn};

use super::{
    Said, Sentences, Words, adapt, bits, everything, largest_difference, loader, loader_of, masks,
    record, recording, sentences,
};

/// The numbers of each example without padding: logits, layers, attentions.
type OfExamples = BTreeMap<u64, Vec<Vec<u32>>>;

fn note(seen: &mut OfExamples, batch: &Sentences, said: &AdaptorOutput) {
    for (place, &id) in batch.ids.iter().enumerate() {
        let place = place as i64;
        let kept = batch.mask.select(0, place).nonzero().view([-1]);
        let rows = |tensor: &Tensor| bits(&tensor.select(0, place).index_select(0, &kept));
        let square = |tensor: &Tensor| {
            let of_one = tensor.select(0, place);
            bits(&of_one.index_select(1, &kept).index_select(2, &kept))
        };
        let Logits::Whole(logits) = &said.logits[0] else {
            panic!("{said:?}")
        };
        let mut all = vec![rows(logits)];
        all.extend(said.features["hidden"].layers.iter().map(rows));
        all.extend(said.features["attention"].layers.iter().map(square));
        assert!(seen.insert(id, all).is_none(), "{id} twice");
    }
}

#[test]
fn float32_is_to_the_bit_whatever_the_batches_are() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = Words::new(0.3);
    let said = RefCell::new(OfExamples::new());
    let noting = |batch: &Sentences, output: &Said| {
        let output = adapt(batch, output)?;
        note(&mut said.borrow_mut(), batch, &output);
        Ok(output)
    };
    let mut in_fours = loader_of(sentences(), 4, false).shuffle(9);
    let file = everything(folder.path())
        .run(&teacher, noting, &mut in_fours)
        .unwrap();
    assert_eq!(file.len(), 23);
    file.verify().unwrap();
    let said = said.into_inner();
    let read = |loader: &mut dyn DataLoader<Batch = Sentences>, epoch| {
        let file = TeacherFile::open(folder.path()).unwrap().teacher(masks);
        let mut seen = OfExamples::new();
        for batch in loader.epoch(epoch).unwrap() {
            let batch = batch.unwrap();
            note(&mut seen, &batch, &file.forward(&batch, false).unwrap());
        }
        seen
    };
    assert!(read(&mut in_fours, 1) == said);
    for (batch_size, epoch) in [(1, 1), (3, 2), (7, 5), (23, 1)] {
        let mut others = loader_of(sentences(), batch_size, false).shuffle(4);
        assert!(read(&mut others, epoch) == said, "{batch_size}");
        let mut grouped =
            loader_of(sentences(), batch_size, false).group_by_length(3, |(_, words)| words.len());
        assert!(read(&mut grouped, epoch) == said, "{batch_size}, grouped");
        let mut left = loader(batch_size, true);
        assert!(read(&mut left, epoch) == said, "{batch_size}, on the left");
    }
    // What two processes read.
    let mut shares = OfExamples::new();
    for rank in 0..2 {
        let mut share = loader(3, false).shard(Shard::new(rank, 2).unwrap());
        shares.extend(read(&mut share, 1));
    }
    assert!(shares == said);
    // Everything at once, without a batch.
    let ids: Vec<u64> = said.keys().copied().collect();
    let all = file.read(&ids).unwrap();
    let mask = all.logits_mask[0].shallow_clone();
    let mut seen = OfExamples::new();
    let batch = Sentences {
        ids: ids.into(),
        input_ids: mask.shallow_clone(),
        mask,
    };
    note(&mut seen, &batch, &all);
    assert!(seen == said);
}

#[test]
fn fewer_bits_are_within_their_bounds() {
    let teacher = Words::new(0.3);
    let mut loader = loader(5, false);
    let batch = loader.epoch(1).unwrap().next().unwrap().unwrap();
    let said = adapt(&batch, &teacher.forward(&batch, false).unwrap()).unwrap();
    let kept = batch.mask.unsqueeze(-1).to_kind(Kind::Float);
    let logits = said.logits[0].whole().unwrap() * &kept;
    let hidden = said.features["hidden"].layers[1].shallow_clone() * &kept;
    for (stored, bound) in [
        (Stored::BFloat16, 1.0 / 256.0),
        (Stored::Float16, 1.0 / 2048.0),
    ] {
        let read = written(&batch, &said, |recording| {
            recording.logits(stored).feature("hidden", [1], stored)
        });
        let got = read.logits[0].whole().unwrap();
        let relative = (&got - &logits).abs() - logits.abs() * bound;
        assert!(relative.max().double_value(&[]) <= 1e-6, "{stored}");
        assert!(
            largest_difference(&got, &logits) > 0.0,
            "{stored} is not float32"
        );
    }
    let read = written(&batch, &said, |recording| {
        recording
            .feature("hidden", [1], Stored::Int8)
            .logits(Stored::Int8)
    });
    for (got, right) in [
        (&read.features["hidden"].layers[1], &hidden),
        (&read.logits[0].whole().unwrap(), &logits),
    ] {
        let of_rows = right.abs().max_dim(-1, true).0 / 253.9;
        let beyond = (got - right).abs() - of_rows;
        assert!(beyond.max().double_value(&[]) <= 0.0);
    }
    assert!(!read.features["hidden"].layers[0].defined());
}

/// What is read of a batch, of what was recorded of it.
fn written(
    batch: &Sentences,
    said: &AdaptorOutput,
    keep: impl FnOnce(textbrewer::teacher_file::Recording) -> textbrewer::teacher_file::Recording,
) -> AdaptorOutput {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = keep(recording(folder.path())).begin().unwrap();
    recorder.add(&batch.ids, said).unwrap();
    let file = recorder.finish().unwrap();
    file.teacher(masks).forward(batch, false).unwrap()
}

#[test]
fn probabilities_come_back_as_their_logarithms() {
    let teacher = Words::new(0.3);
    let batch = loader(5, false).epoch(1).unwrap().next().unwrap().unwrap();
    let said = adapt(&batch, &teacher.forward(&batch, false).unwrap()).unwrap();
    let read = written(&batch, &said, |recording| {
        recording.probabilities(Stored::Float32)
    });
    let kept = batch.mask.unsqueeze(-1).to_kind(Kind::Float);
    let right = said.logits[0].whole().unwrap().log_softmax(-1, Kind::Float) * &kept;
    assert!(largest_difference(&read.logits[0].whole().unwrap(), &right) < 1e-5);
}

#[test]
fn the_most_likely_classes_are_within_float16() {
    let teacher = Words::new(0.9);
    let batch = loader(5, false).epoch(1).unwrap().next().unwrap().unwrap();
    let said = adapt(&batch, &teacher.forward(&batch, false).unwrap()).unwrap();
    let read = written(&batch, &said, |recording| recording.top_k(4, 2.0));
    let Logits::TopK(read) = &read.logits[0] else {
        panic!("{read:?}")
    };
    assert_eq!(read.temperature(), 2.0);
    let right = TopK::of(&said.logits[0].whole().unwrap(), 4, 2.0).unwrap();
    let kept = batch.mask.unsqueeze(-1);
    assert_eq!(read.indices() * &kept, right.indices() * &kept);
    let of_kept = |tensor: &Tensor| tensor.masked_select(&kept.ne(0)).to_kind(Kind::Double);
    for (got, right) in [
        (
            read.log_probabilities().shallow_clone(),
            right.log_probabilities().shallow_clone(),
        ),
        (
            read.log_tail().unsqueeze(-1),
            right.log_tail().unsqueeze(-1),
        ),
    ] {
        let (got, right) = (of_kept(&got), of_kept(&right));
        let beyond = (&got - &right).abs() - right.abs() / 2048.0;
        assert!(beyond.max().double_value(&[]) <= 0.0);
    }
}

/// A pooled embedding and scores of sentences have no positions; queries, keys and values have three
/// groups of them.
#[test]
fn features_of_every_shape_come_back() {
    let teacher = Words::new(0.3);
    let batch = loader(5, false).epoch(1).unwrap().next().unwrap().unwrap();
    let output = teacher.forward(&batch, false).unwrap();
    let kept = batch.mask.unsqueeze(-1).to_kind(Kind::Float);
    let state = &output.hidden[1] * &kept;
    let pooled = output.hidden[1].select(1, 0);
    let qkv = Tensor::stack(&[&state, &(&state * 2.0), &(&state * 3.0)], 1);
    let said = AdaptorOutput::new()
        .logits(&output.of_sentences)
        .logits(&output.of_sentences * 2.0)
        .inputs_mask(&batch.mask)
        .feature("pooled", &[pooled.shallow_clone()])
        .feature("qkv", &[Tensor::new(), qkv.shallow_clone()])
        .feature(
            "own",
            Feature::new(&[state.shallow_clone()]).mask(&batch.mask),
        )
        .feature(
            "all",
            Feature::new(&[output.hidden[1].shallow_clone()]).unmasked(),
        );
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = ["pooled", "own", "all"]
        .into_iter()
        .fold(
            recording(folder.path()).logits(Stored::Float32),
            |recording, name| recording.feature(name, [0], Stored::Float32),
        )
        .feature("qkv", [1], Stored::Float32)
        .begin()
        .unwrap();
    recorder.add(&batch.ids, &said).unwrap();
    let file = recorder.finish().unwrap();
    let masks = |batch: &Sentences| {
        Ok(AdaptorOutput::new()
            .inputs_mask(&batch.mask)
            .feature("own", Feature::new(&[]).mask(&batch.mask)))
    };
    let read = file.teacher(masks).forward(&batch, false).unwrap();
    assert_eq!(read.logits[0].whole().unwrap(), output.of_sentences);
    assert_eq!(read.logits[1].whole().unwrap(), output.of_sentences * 2.0);
    assert_eq!(read.features["pooled"].layers[0], pooled);
    assert_eq!(read.features["qkv"].layers[1], qkv);
    assert!(!read.features["qkv"].layers[0].defined());
    assert_eq!(read.features["own"].layers[0], state);
    assert_eq!(read.features["all"].layers[0], output.hidden[1]);
    // The student's mask does not count where the teacher said that all positions do.
    assert!(format!("{:?}", read.features["all"]).contains("Unmasked"));
    assert!(format!("{:?}", read.features["pooled"]).contains("Inputs"));
}

#[test]
fn a_loader_of_tensors_needs_no_ids_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let rows = Tensor::randn([10, 3], (Kind::Float, super::device::device()));
    let loader = |batch_size| {
        let rows = rows.to_device(tch::Device::Cpu);
        TensorLoader::new(vec![rows], batch_size).unwrap()
    };
    let teacher = from_fn(|(_, rows): &(Ids, Vec<Tensor>), _| Ok(rows[0].exp()));
    let mut in_fours = loader(4).with_ids();
    let file = recording(folder.path())
        .logits(Stored::Float32)
        .run(
            &teacher,
            |_, logits| Ok(AdaptorOutput::new().logits(logits)),
            &mut in_fours,
        )
        .unwrap();
    let file = file.teacher(|_: &(Ids, Vec<Tensor>)| Ok(AdaptorOutput::new()));
    for batch in loader(3).shuffle(1).with_ids().epoch(2).unwrap() {
        let batch = batch.unwrap();
        let read = file.forward(&batch, false).unwrap().logits[0]
            .whole()
            .unwrap();
        assert!(largest_difference(&read, &batch.1[0].exp()) < 1e-6);
    }
}

#[test]
fn the_same_recording_again_does_nothing_and_another_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = Words::new(0.3);
    record(folder.path(), &teacher, 4);
    let silent = from_fn(|_: &Sentences, _| -> textbrewer::Result<Said> { panic!("asked again") });
    let again = everything(folder.path()).run(&silent, adapt, &mut loader(4, false));
    assert_eq!(again.unwrap().len(), 23);
    // What came to the data since is added.
    let mut more = sentences();
    more.push((3, vec![5, 6, 7]));
    let count = Cell::new(0);
    let counting = |batch: &Sentences, output: &Said| {
        count.set(count.get() + batch.ids.len());
        adapt(batch, output)
    };
    let mut more = loader_of(more, 4, false);
    let file = everything(folder.path())
        .run(&teacher, counting, &mut more)
        .unwrap();
    assert_eq!((file.len(), count.get()), (24, 4));
    let error = |recording: textbrewer::teacher_file::Recording| {
        let run = recording.run(&teacher, adapt, &mut loader(4, false));
        run.unwrap_err().to_string()
    };
    let message = error(recording(folder.path()).logits(Stored::BFloat16));
    assert!(
        message.contains("has another recording, which differs in what is kept"),
        "{message}"
    );
    let message = error(everything(folder.path()).fact("teacher", "b"));
    assert!(
        message.contains("which differs in the fact `teacher`"),
        "{message}"
    );
    std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let file = recording(folder.path())
        .logits(Stored::BFloat16)
        .overwrite(true)
        .run(&teacher, adapt, &mut loader(4, false))
        .unwrap();
    assert_eq!(file.columns().len(), 1);
    assert!(folder.path().join("notes.txt").exists());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}

/// What is left when a replacement ends in the middle is still the earlier recording.
#[test]
fn shards_of_a_recording_that_is_being_replaced_are_nobodys() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = Words::new(0.3);
    record(folder.path(), &teacher, 4);
    let other = || recording(folder.path()).logits(Stored::BFloat16);
    // A folder cannot be removed as a file.
    let stuck = folder.path().join("shard-00000.safetensors");
    let aside = folder.path().join("aside");
    std::fs::rename(&stuck, &aside).unwrap();
    std::fs::create_dir(&stuck).unwrap();
    assert!(other().overwrite(true).begin().is_err());
    std::fs::remove_dir(&stuck).unwrap();
    std::fs::rename(&aside, &stuck).unwrap();
    let message = other().begin().unwrap_err().to_string();
    assert!(message.contains("has another recording"), "{message}");
}
