//! Models with several tensors of logits, in several forms.

use tch::{Device, Kind, Tensor};
use textbrewer::logits::TopK;
use textbrewer::teacher_file::{Recording, Stored};
use textbrewer::{AdaptorOutput, Ids, Logits, Model, TeacherFile};

/// Two heads `[2, 3, classes]` of 5 and 7 classes.
fn heads() -> [Tensor; 2] {
    [5i64, 7].map(|classes| {
        let numbers = Tensor::arange(6 * classes, (Kind::Float, Device::Cpu));
        (numbers * 0.7).sin().view([2, 3, classes])
    })
}

fn recorded(recording: Recording, said: &AdaptorOutput) -> TeacherFile {
    let mut recorder = recording.begin().unwrap();
    recorder.add(&[4, 9], said).unwrap();
    recorder.finish().unwrap()
}

#[test]
fn another_form_of_one_head_stays_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = heads();
    let said = AdaptorOutput::new().logits(&first).logits(&second);
    let recording = Recording::new(folder.path()).logits(Stored::Float32);
    let file = recorded(recording.top_k(5, 1.0), &said);
    let teacher = file.teacher(|_: &Ids| Ok(AdaptorOutput::new()));
    let teacher = teacher.using("logits.0.top5").unwrap();
    let said = teacher.forward(&Ids::from(vec![9]), false).unwrap();
    let [Logits::TopK(top), Logits::Whole(whole)] = &said.logits[..] else {
        panic!("{said:?}")
    };
    assert_eq!(whole, &second.narrow(0, 1, 1));
    let wanted = TopK::of(&first.narrow(0, 1, 1), 5, 1.0).unwrap();
    assert_eq!(
        top.indices().sort(-1, false).0,
        wanted.indices().sort(-1, false).0
    );
}

/// A head of sentences beside one of words, which alone has a mask; and two masks.
#[test]
fn what_is_read_has_the_mask_of_each_head() {
    let [first, second] = heads();
    let mask = Tensor::from_slice2(&[[1i64, 1, 0], [1, 0, 0]]);
    let other = Tensor::from_slice2(&[[1i64, 1, 1], [1, 1, 0]]);
    let of_sentences = first.select(1, 0);
    let cases = [
        AdaptorOutput::new()
            .logits(&of_sentences)
            .logits(&second)
            .logits_mask(&mask),
        AdaptorOutput::new()
            .logits(&first)
            .logits(&second)
            .logits_mask(&mask)
            .logits_mask(&other),
    ];
    for said in cases {
        let folder = tempfile::tempdir().unwrap();
        let recording = Recording::new(folder.path()).logits(Stored::Float32);
        let file = recorded(recording.top_k(2, 1.0), &said);
        let read = file.read(&[4, 9]).unwrap();
        assert_eq!((read.logits.len(), read.logits_mask.len()), (4, 4));
        for (place, (logits, mask)) in read.logits.iter().zip(&read.logits_mask).enumerate() {
            let head = place % 2;
            let whole = &said.logits[head];
            let wanted = match &said.logits_mask[..] {
                [one] => whole.select_with_mask(one),
                several => whole.select_with_mask(&several[head]),
            };
            let (got, wanted) = (logits.select_with_mask(mask).unwrap(), wanted.unwrap());
            assert_eq!(
                got.positions().unwrap(),
                wanted.positions().unwrap(),
                "{place}"
            );
            if place < 2 {
                assert_eq!(got.whole().unwrap(), wanted.whole().unwrap(), "{place}");
            }
        }
    }
}

/// Examples without any position, in every form.
#[test]
fn masks_that_keep_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let [first, _] = heads();
    let none = Tensor::zeros([2, 3], (Kind::Int64, Device::Cpu));
    let attention = Tensor::ones([2, 2, 3, 3], (Kind::Float, Device::Cpu));
    let said = AdaptorOutput::new()
        .logits(&first)
        .logits_mask(&none)
        .inputs_mask(&none)
        .hidden(&[first.shallow_clone()])
        .attention(&[attention]);
    let recording = Recording::new(folder.path())
        .logits(Stored::Float16)
        .probabilities(Stored::Int8)
        .top_k(2, 1.0)
        .sample(3, 1.0, 1)
        .feature("hidden", [0], Stored::BFloat16)
        .attention("attention", [0], Stored::Int8);
    let file = recorded(recording, &said);
    file.verify().unwrap();
    let masks = |_: &Ids| Ok(AdaptorOutput::new().logits_mask(&none).inputs_mask(&none));
    for form in file.columns().iter().map(|column| column.name.clone()) {
        let teacher = file.teacher(masks);
        let teacher = match form.starts_with("logits") {
            true => teacher.using(&form).unwrap(),
            false => teacher,
        };
        let read = teacher.forward(&Ids::from(vec![9, 4]), false).unwrap();
        assert_eq!(read.logits[0].positions().unwrap(), [2, 3], "{form}");
        assert_eq!(read.features["hidden"].layers[0].size(), [2, 3, 5]);
        assert_eq!(read.features["attention"].layers[0].size(), [2, 2, 3, 3]);
    }
    assert_eq!(
        file.read(&[4]).unwrap().logits[0].positions().unwrap(),
        [1, 0]
    );
}
